"""The parts of `KneeLimit`."""
