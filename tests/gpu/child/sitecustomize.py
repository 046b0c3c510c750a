"""Give a worker process the simulated GPU; other processes start as they would."""

import sys

if "--multiprocessing-fork" in sys.orig_argv:
    from tests.gpu import simulation

    simulation.install()
    simulation.stay()
