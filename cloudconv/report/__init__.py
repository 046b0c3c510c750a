"""Write reports as HTML pages, which open from disk."""
