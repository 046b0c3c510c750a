"""Files and pictures in: probed, demuxed, decoded."""
