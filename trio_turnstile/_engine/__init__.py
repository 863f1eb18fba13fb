"""Items under a limit: sources, workers, attempts, counts."""
