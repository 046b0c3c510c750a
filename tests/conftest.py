"""The same examples in every run, as a check must not fail by luck; threads as in the command."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
