"""Operations on tensors: recurrences, and parameters that change shape."""

__all__: list[str] = []
