"""Compare this library with others, as ratios: ``python -m benchmarks``."""
