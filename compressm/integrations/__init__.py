"""Callbacks for the trainers of Lightning and transformers."""

__all__: list[str] = []
