"""The command line: thin functions that turn options into settings; no video, no tensors."""
