"""Define training clips, losses, the tasks that a model learns, and the training loop."""
