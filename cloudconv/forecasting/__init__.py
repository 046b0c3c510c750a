"""Forecast a picture as layers: a background moved by the camera, and moving things."""
