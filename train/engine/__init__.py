"""How runs are trained."""
