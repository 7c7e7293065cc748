"""Layers as systems, and systems written back into layers."""

__all__: list[str] = []
