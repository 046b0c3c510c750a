"""Raise a video's frame rate, from file to file."""
