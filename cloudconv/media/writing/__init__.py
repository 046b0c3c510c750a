"""Choose an encoder, encode frames, and write the packets into a complete output.

`encoding` has the plan, `sink` encodes by the plan, and `muxer` writes the file.
"""
