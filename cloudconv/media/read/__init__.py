"""Probe, demux and decode files and pictures."""
