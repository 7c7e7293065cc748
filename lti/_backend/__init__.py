"""Array libraries, and the derivatives of the theorems in torch; nothing here knows a system."""
