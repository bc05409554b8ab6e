"""A run, from top to bottom."""
