"""Find the files of an input, open them, and describe their content."""
