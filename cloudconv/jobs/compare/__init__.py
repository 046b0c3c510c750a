"""Score methods on a clip against the frames that really are there."""
