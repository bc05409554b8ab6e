"""What figures of a model say of examples that nobody has seen: figures, intervals, tests. NumPy and SciPy only."""
