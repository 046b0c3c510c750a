"""Carry the streams beside the video over, or name them.

`additions` decides by one rule, and `tracks` and `audio` move the packets.
"""
