"""Read the end of a video and write its continuation, for extrapolate and dream."""
