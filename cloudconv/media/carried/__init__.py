"""Carry the streams beside the video over, or name them.

`beside` decides by one rule, and `tracks` and `audio` move the packets.
"""
