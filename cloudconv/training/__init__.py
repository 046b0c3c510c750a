"""Train models on clips, and fine-tune an interpolator on the video that it interpolates."""
