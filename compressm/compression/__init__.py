"""The steps of a cut: observe, plan, select orders, veto, snapshot, apply."""

__all__: list[str] = []
