"""Pipelines, on the engine."""
