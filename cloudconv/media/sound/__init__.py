"""Compute with samples of sound: stretch, compare, cross, and play parts again.

No module here knows a file or a codec.
"""
