"""Read, convert and write video, pictures and sound; the only package that imports av.

The way of a frame: ``demux`` reads packets, and ``clock`` corrects their times. ``probe``
describes the file (``MediaInfo``, ``timing``). ``decode`` makes pictures of the packets,
and ``source`` a ``Frame`` of each (``frame``). ``sink`` encodes frames by an
``EncodingPlan`` (``encoding``). ``packets`` stores the packets of a segment, and ``sink``
joins those of all segments. ``muxer`` writes them between the packets of ``others``.
``sink`` completes and checks the file.
"""
