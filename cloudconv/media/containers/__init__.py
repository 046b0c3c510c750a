"""Hold the facts about file formats: what each stores, and what FFmpeg writes otherwise.

`containers` has a row for each format of an output, and names the functions of the rows.
"""
