"""Give a worker process the simulated GPU, and each process the network ``tiny``."""

import sys

from tests.helpers.each_process import sitecustomize  # noqa: F401

if "--multiprocessing-fork" in sys.orig_argv:
    from tests.gpu import simulation

    simulation.install()
    simulation.stay()
