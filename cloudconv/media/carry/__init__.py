"""Carry over all streams and tags of a file except its video."""
