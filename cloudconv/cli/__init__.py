"""Turn the options of the command line into settings, and results into text."""
