"""What a file carries beside its video, taken along."""
