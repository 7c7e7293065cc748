"""Runs and weights in files that are read and never executed."""

__all__: list[str] = []
