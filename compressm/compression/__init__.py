"""The way of a model through a cut: observe, plan, choose orders, veto, snapshot, apply."""

__all__: list[str] = []
