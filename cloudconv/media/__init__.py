"""Read, convert and write video, pictures and sound; the only package that imports av.

The package has four floors. A module imports modules of its own floor or of a lower one:

- files: ``read/`` (from a file to frames), ``write/`` (from frames to a file), ``carry/`` (streams
  that are copied), ``vmaf``, and ``build`` (facts about this FFmpeg)
- input: ``input/`` (find, open and identify files), ``turn``
- FFmpeg: ``convert``, ``filters``, ``fields``, ``log``, ``matroska``, ``webp``
- pictures in memory: ``frame``, ``task``, ``formats``, ``color``, ``linear``

The lower floors are no folders, because other packages use most of their modules directly; a folder
would only lengthen the names. ``PARTS`` in ``tests/test_structure.py`` states the exact order.
"""
