"""Define every error that cloudconv raises on purpose.

An error has a code and a text (:mod:`cloudconv.messages`). A text has one or two sentences:
the given value, the accepted values, the remedy. Code that calls a third-party library
converts its exceptions to these classes, with ``raise … from``. :class:`Interrupted`
(Ctrl-C) is separate, so that code that catches errors does not catch it.

::

    Exception
      CloudconvError               exit code 1
        SettingsError              exit code 2: wrong usage
          OutputUsageError           (an OutputError, too)
          EncoderUsageError          (an EncoderError, too)
          ModelUsageError            (a ModelError, too)
          UnknownModelError          (a ModelError, too)
        InputError                 the input is missing or unreadable
          ReadError                  the disk or the connection fails
          UnfitInputError            the input changed during the run
          PictureError               (a ValueError, too) pictures in memory
        OutputError                the output cannot be written
          EncoderError               the encoder refuses the pictures or options
          TakenError                 the output is complete, under another name
        ModelError                 the network does not fit, or fails
          WeightsError               the file of weights is missing or damaged
        DeviceError                the device is missing, or lacks memory
    KeyboardInterrupt              exit code 130
      Interrupted                  finished work is kept, and the next run goes on
      InterruptedAtEnd             the output is complete
"""

from cloudconv.messages import in_python


class CloudconvError(Exception):
    """Base class of all errors.

    The command line prints the text and exits with ``exit_code``.

    ``kind`` identifies the type of error for other programs; ``code`` identifies the
    message. ``text`` has options as on the command line; ``str()`` has them as Python
    keywords. ``may_pass``: the same command may succeed later, with more memory, room or
    rights. ``ends_work``: an interrupted run cannot go on after this error.
    """

    exit_code = 1
    kind = "other"
    may_pass = ends_work = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code, _, self.text = message.partition(": ")

    def __str__(self) -> str:
        return in_python(self.text)


class SettingsError(CloudconvError):
    """A setting is out of range, or two settings contradict each other (exit code 2)."""

    exit_code = 2
    kind = "usage"


class InputError(CloudconvError):
    """The input is missing or unreadable, or contains no video."""

    kind = "input"


class ReadError(InputError):
    """The disk or the connection of the input fails: a part of the input is missing."""

    may_pass = True


class UnfitInputError(InputError):
    """The input changed its size or content during the run.

    The work so far cannot be used.
    """

    ends_work = True


class PictureError(InputError, ValueError):
    """Pictures in memory have an unsupported type, shape or number."""


class OutputError(CloudconvError):
    """The output cannot be written: a file exists, no permission, the disk is full."""

    kind = "output"
    may_pass = True


class OutputUsageError(SettingsError, OutputError):
    """The output's name gives no supported format."""


class EncoderError(OutputError):
    """The encoder, an option of it, or its use in this container is not available."""

    kind = "encoder"
    may_pass = False


class EncoderUsageError(SettingsError, EncoderError):
    """There is no such encoder, option or pixel format, or a value is out of its range."""


class TakenError(OutputError):
    """The output is complete under another name, because something else took its name."""

    ends_work = True


class ModelError(CloudconvError):
    """The model cannot do the task."""

    kind = "model"


class ModelUsageError(SettingsError, ModelError):
    """The model has no such option, or does not accept the value."""


class UnknownModelError(SettingsError, ModelError):
    """There is no model of that name for the task."""


class WeightsError(ModelError):
    """A weights file is missing, damaged, or belongs to another model."""

    kind = "weights"


class DeviceError(CloudconvError):
    """The device or cluster is absent or fails, or lacks the memory or the precision."""

    kind = "device"
    may_pass = True


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work that the same command can resume.

    ``kept`` names the saved work.
    """

    code = "interrupted"

    def __init__(self, *kept: str) -> None:
        """Create the exception from clauses that name the saved work and its location."""
        self.kept = kept
        self.text = f"interrupted; {' and '.join(kept)}; the same command carries on."
        super().__init__(in_python(self.text))


class InterruptedAtEnd(KeyboardInterrupt):
    """Ctrl-C when the output was complete; ``kept`` names it."""

    code = "interrupted"

    def __init__(self, output: object) -> None:
        """Create the exception for an output that has its final name."""
        self.kept = (f"{output} is complete",)
        self.text = f"interrupted; {output} is complete"
        super().__init__(self.text)
