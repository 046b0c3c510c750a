"""The command line, in this process."""

from typing import Any

from typer.testing import CliRunner

from cloudconv.cli.app import app


def invoke(*words: object, **options: Any) -> Any:
    """Return the result of the command: its exit code, stdout and stderr."""
    return CliRunner().invoke(app, [*map(str, words)], prog_name="cloudconv", **options)
