"""How heads are trained."""
