"""Models of the earlier research projects from which cloudconv developed."""
