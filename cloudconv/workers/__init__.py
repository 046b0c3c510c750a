"""Who renders the segments: this process, several, or a Ray cluster."""
