"""What runs have done, on disk, so that a run that was killed can go on."""
