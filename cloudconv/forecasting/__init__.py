"""Forecast a picture as layers: a background under the camera's motion, and things that move."""
