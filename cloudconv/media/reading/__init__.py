"""Read an input: packets, its description, its pictures, and frames at exact times.

`demux` reads packets, `probe` describes the file, `decode` and `source` make the frames.
"""
