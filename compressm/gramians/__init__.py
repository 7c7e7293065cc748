"""How the states of a layer are scored: Gramian types, and what they observe."""

__all__: list[str] = []
