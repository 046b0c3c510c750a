"""Make new frames with a model: devices, memory, batches, tiles."""
