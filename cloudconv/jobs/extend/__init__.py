"""Share what extrapolate and dream have in common."""
