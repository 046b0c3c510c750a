"""Write the results of ``compare`` and ``dream`` as one HTML page each, which opens from disk."""
