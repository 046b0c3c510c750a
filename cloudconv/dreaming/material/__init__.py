"""The material of a dream and its analysis."""
