"""Decide from which source frames each output frame is made, and when it is shown."""
