"""Write the results of ``compare`` as an HTML page, which opens from disk."""
