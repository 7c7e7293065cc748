"""Penalties on Hankel singular values, added to a loss."""

__all__: list[str] = []
