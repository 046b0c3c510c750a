"""Give a worker process the simulated GPU, and each process the network ``tiny``."""

import sys

from tests.helpers.each_process import sitecustomize  # noqa: F401

if any("default_worker" in word for word in sys.orig_argv):  # of Ray
    from tests.gpu import simulation

    simulation.install()
    simulation.stay()
