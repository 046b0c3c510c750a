"""Telling a living dream from a dead one."""
