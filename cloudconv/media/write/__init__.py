"""Frames out: encoders, containers, and a file that appears only when it is whole."""
