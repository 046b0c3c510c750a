"""Convert the samples of a picture: to RGB and back, to light, and for an encoder.

All conversions are by the tags of a picture, and lossless where no sample is out of range.
"""
