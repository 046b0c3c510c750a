"""Start the command line: ``cloudconv`` and ``python -m cloudconv``."""

from __future__ import annotations

import os
import sys
import warnings

from cloudconv.cli import interrupts, streams


def main() -> None:
    """Run the command line and exit with its code."""
    streams.open_all()
    interrupts.heed()
    # Threads of a network that wait for each other by spinning hold up decoders and encoders.
    # OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.warnoptions:
        # Libraries' notes to programmers; what the user should know comes as a job's warnings.
        warnings.simplefilter("ignore")
    try:
        from cloudconv.cli.app import app

        app(prog_name="cloudconv")
    except KeyboardInterrupt:
        # Before or after a command; within one it is handled with every other way to end.
        sys.exit(130)
    finally:
        # As the interpreter ends, a signal would leave a traceback, or kill it: its exit code
        # would say that an output which is whole is not.
        interrupts.ignore()


if __name__ == "__main__":
    main()
