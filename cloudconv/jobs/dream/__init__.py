"""Continue a video from its last frame for any length of time."""
