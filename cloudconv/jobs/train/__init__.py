"""Train a model on clips, and write its weights."""
