"""Give a worker process the simulated GPU; leave other processes unchanged."""

import sys

if "--multiprocessing-fork" in sys.orig_argv:
    from tests.gpu import simulation

    simulation.install()
    simulation.stay()
