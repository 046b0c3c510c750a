"""What extrapolate and dream share."""
