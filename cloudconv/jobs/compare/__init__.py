"""Score methods on a clip: compare the frames that they make with the clip's own frames."""
