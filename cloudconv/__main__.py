"""Start the command line: ``cloudconv`` and ``python -m cloudconv``."""

import gc
import os
import sys
import warnings


def main() -> None:
    """Run the command line and exit with its code.

    The imports are inside this function, so that Ctrl-C during an import leaves no
    traceback.
    """
    try:
        _run()
    except KeyboardInterrupt:
        # The signal came before or after the command, which handles signals itself.
        sys.exit(130)
    except (OSError, RuntimeError, MemoryError, ImportError) as error:
        # The start needs files and a thread. The command itself, once it runs, handles its
        # errors.
        os.write(
            2,
            f"error: cloudconv cannot start ({error}): close other programs, or raise the "
            "limits on open files, processes and memory (ulimit -n, -u and -v)\n".encode(),
        )
        sys.exit(1)


def _run() -> None:
    from cloudconv import host, interrupts
    from cloudconv.cli import streams

    host.reuse_memory()
    streams.replace_closed()
    interrupts.install()
    # Threads of a network that wait in a busy loop take the cores from decoders and
    # encoders. OpenMP reads this variable when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.warnoptions:
        # Hide the libraries' warnings for programmers. Warnings for users are events of the
        # job.
        warnings.simplefilter("ignore")
    try:
        from cloudconv.cli.app import app

        app(prog_name="cloudconv")
    finally:
        # A signal during the end of the interpreter would give a traceback and a wrong exit
        # code for an output that is complete.
        interrupts.ignore()
        # Python's last garbage collections visit every object of torch, which takes 0.4 s.
        # The end of the process frees the memory, and nothing that must be closed depends
        # on a collection.
        gc.freeze()


if __name__ == "__main__":
    main()
