"""Define every error that cloudconv raises on purpose.

::

    CloudconvError                 exit code 1
     ├─ SettingsError              a setting is invalid or contradicts another one (exit code 2)
     ├─ InputError                 the input is missing, unreadable, or contains no video
     │   ├─ ReadError              the disk or the connection of the input fails
     │   ├─ UnfitInputError        the input changed; the work so far cannot be used
     │   └─ PictureError           pictures in memory have a wrong type or shape (also ValueError)
     ├─ OutputError                the output cannot be written: exists, no permission, disk full
     │   ├─ OutputUsageError       the output's name gives no known format (also SettingsError)
     │   ├─ EncoderError           the encoder is missing, or the container refuses the encoder
     │   │   └─ EncoderUsageError  unknown encoder or option, wrong value (also SettingsError)
     │   └─ TakenError             another file took the name; the output has a different name
     ├─ ModelError                 the model cannot do the task
     │   ├─ ModelUsageError        the model has no such option (also SettingsError)
     │   ├─ UnknownModelError      there is no such model (also SettingsError)
     │   └─ WeightsError           a weights file is missing, damaged, or for another model
     └─ DeviceError                the device is absent, fails, or lacks memory or the precision

:class:`Interrupted` (Ctrl-C) is separate, so that code that catches errors does not catch it.

An error has a code and a text (:mod:`cloudconv.messages`). A text has one or two sentences: the
given value, the accepted values, the remedy. Code that calls a third-party library converts its
exceptions to these classes, with ``raise … from``.
"""

from cloudconv.messages import in_python


class CloudconvError(Exception):
    """Base class of all errors; the command line prints the text and exits with ``exit_code``.

    ``kind`` identifies the type of error for other programs; ``code`` identifies the message.
    ``text`` has options as on the command line; ``str()`` has them as Python keywords.
    """

    exit_code = 1
    kind = "other"

    def __init__(self, message: str) -> None:
        """Create the error from its code, a colon and its text."""
        super().__init__(message)
        self.code, _, self.text = message.partition(": ")

    def __str__(self) -> str:
        """Return the text with options as Python keywords."""
        return in_python(self.text)


class SettingsError(CloudconvError):
    """A setting is out of range, or two settings contradict each other."""

    exit_code = 2
    kind = "usage"


class InputError(CloudconvError):
    """The input cannot be read as video."""

    kind = "input"


class ReadError(InputError):
    """The disk or the connection of the input fails, so that a part of the input is missing."""


class UnfitInputError(InputError):
    """The input changed its size or content during the run; the work so far cannot be used."""


class PictureError(InputError, ValueError):
    """Pictures in memory have an unsupported type, shape or number."""


class OutputError(CloudconvError):
    """The output cannot be written."""

    kind = "output"


class OutputUsageError(SettingsError, OutputError):
    """The output's name gives no supported format."""


class EncoderError(OutputError):
    """The encoder, one of its options, or this encoder in this container is not available."""

    kind = "encoder"


class EncoderUsageError(SettingsError, EncoderError):
    """There is no such encoder, option or pixel format, or a value is out of its range."""


class TakenError(OutputError):
    """The output is complete under another name, because something else took its name."""


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


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work that the same command can resume; ``kept`` names the saved work."""

    code = "interrupted"

    def __init__(self, *kept: str) -> None:
        """Create the exception from clauses that name the saved work and its location."""
        self.kept = kept
        self.text = f"interrupted; {' and '.join(kept)}; the same command carries on."
        super().__init__(in_python(self.text))
