"""Read, convert and write video, pictures and sound; the only package that imports av."""
