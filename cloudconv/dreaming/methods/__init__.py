"""Ways of dreaming; the registry lists them."""
