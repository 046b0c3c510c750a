"""Turn the error of a command into one message and an exit code."""

import re
import traceback
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from cloudconv import files
from cloudconv.cli import streams
from cloudconv.cli.command import INTERRUPTED
from cloudconv.cli.console import print_error, print_json
from cloudconv.cli.streams import print_message
from cloudconv.errors import CloudconvError, Interrupted, InterruptedAtEnd, SettingsError
from cloudconv.host import lack_of_memory, refusal
from cloudconv.messages import did_you_mean

_OTHER_NAMES = {"--duration": "--seconds", "--length": "--seconds"}
"""Options that other programs have, and what they are called here."""


def _failure(error: str, code: str, kind: str, exit_code: int) -> dict[str, Any]:
    """Return the JSON object that a failed command prints with ``--json``."""
    return {"error": error, "code": code, "kind": kind, "exit_code": exit_code}


def report(error: BaseException, words: Sequence[str]) -> int:
    """Print the message for an error of a command; return the exit code."""
    short = "".join(word for word in words if re.fullmatch("-[a-z]+", word))
    verbose = ("--verbose" in words or "v" in short) and "q" not in short
    failure = _describe(error, verbose=verbose)
    if isinstance(error, TyperException):
        failure["error"] += _dash_hint(words)
    if failure["code"] == "interrupted":
        print_message(failure["error"], "interrupted")  # an interrupt is no error
    else:
        if verbose and not isinstance(error, TyperException):
            for line in "".join(traceback.format_exception(error)).splitlines():
                print_message(line, "traceback")
        print_error(**failure)
    if "--json" in words and "stdout" not in streams.closed_streams:
        print_json(failure)
    return int(failure["exit_code"])


def _dash_hint(words: Sequence[str]) -> str:
    """Return a sentence about the first word that looks like a file after a dash."""
    for word in words:
        ending = Path(word).suffix[1:]
        is_file = ending.isalnum() and not ending.isdecimal() and "=" not in word
        if word == "--":
            break
        if word.startswith("-") and is_file:
            return f" If {word} is a file, put -- before the files: -- {word}."
    return ""


def _describe(error: BaseException, *, verbose: bool) -> dict[str, Any]:
    if isinstance(error, CloudconvError):
        return _failure(error.text, error.code, error.kind, error.exit_code)
    if isinstance(error, TyperException):
        text = f"{error.format_message().rstrip('.')}: see --help."
        if hasattr(error, "possibilities"):  # an option that does not exist
            unknown = getattr(error, "option_name", "")
            context: Any = vars(error)["ctx"]
            known = chain.from_iterable(each.opts for each in context.command.params)
            near = did_you_mean(unknown, error.possibilities or [])
            if (other := _OTHER_NAMES.get(unknown)) in known:
                near = f" (did you mean {other}?)"
            text = f"There is no option {unknown}{near}: see --help."
        words = re.findall("[A-Z][a-z]+", type(error).__name__)  # such as NoSuchOption
        return _failure(text, "-".join(words).lower(), SettingsError.kind, error.exit_code)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        for path in files.unfinished():  # created during the interrupt
            files.remove(path)
        if isinstance(error, Interrupted | InterruptedAtEnd):
            return _failure(error.text, "interrupted", "interrupted", INTERRUPTED)
        left = " and ".join(map(str, files.unfinished()))
        text = (
            f"{left} could not be removed"
            if left
            else "this run has left no unfinished file"
        )
        return _failure(f"interrupted; {text}", "interrupted", "interrupted", INTERRUPTED)
    if (why := lack_of_memory(error)) is not None:  # also while a library loads
        return _failure(why, "memory", "memory", 1)
    if (why := refusal(error)) is not None:
        return _failure(why, "system-refuses", CloudconvError.kind, 1)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    details = "" if verbose else "; run again with --verbose for the details"
    text = f"unexpected, please report it as a bug ({what}){details}"
    return _failure(text, "unexpected", "bug", 1)
