"""Read, convert and write video, pictures and sound; the only package that imports av.

The way of a frame: ``input`` finds the file, ``demux`` reads packets, ``probe`` describes the file
as a ``MediaInfo`` (``info``), ``source`` makes a ``Frame`` (``frame``), ``sink``
encodes frames by an ``EncodingPlan`` (``plan``), ``packets`` stores the packets of a segment, and
``muxer`` writes packets into the output, between those that ``copier`` carries over.

``PARTS`` in ``tests/test_structure.py`` states which module may import which.
"""
