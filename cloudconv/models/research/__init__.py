"""The models of the research projects that cloudconv grew out of."""
