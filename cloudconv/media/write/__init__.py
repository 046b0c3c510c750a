"""Encode frames into containers; the output file appears only when it is complete."""
