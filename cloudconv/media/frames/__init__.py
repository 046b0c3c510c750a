"""Define a frame: the samples of its picture, its fields, and its exact time.

Nothing here opens a file; `clock` and `timing` make times of the stamps that others read.
"""
