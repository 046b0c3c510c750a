"""The modes of dreaming; the registry lists them."""
