"""Define all models, and the registry that lists them."""
