"""Dream: continue a clip for any length of time, and measure whether the dream is alive."""
