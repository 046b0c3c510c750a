"""Read, convert and write video, pictures and sound; the only package that imports av.

Each room imports only rooms before itself: ``frames`` (samples and times), ``colour``,
``containers`` (facts about formats), ``reading``, ``sound``, ``carried`` (streams beside
the video), ``writing``. The way of a frame: ``reading.demux`` reads packets, and
``frames.clock`` corrects their times. ``reading.decode`` makes pictures of the packets, and
``reading.source`` a ``Frame`` of each. ``writing.encoding`` encodes frames by an
``EncodingPlan``. ``writing.packets`` stores the packets of a segment, and ``writing.sink``
joins those of all segments, between the packets of ``carried.tracks``, and completes and
checks the file.
"""
