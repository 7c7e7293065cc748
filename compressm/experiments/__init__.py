"""The application on top of the library: recipes, runs, reports."""

__all__: list[str] = []
