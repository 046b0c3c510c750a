"""Measure whether a dream is alive."""
