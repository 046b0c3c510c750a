"""Every error that cloudconv raises on purpose.

::

    CloudconvError                 exit code 1
     ├─ SettingsError              what was asked for does not make sense (exit code 2)
     ├─ InputError                 the input is missing, unreadable, or holds no video
     │   ├─ UnfitInputError        it cannot be gone on with, and what is made of it is of no use
     │   └─ PictureError           pictures in memory have another kind or shape (also a ValueError)
     ├─ OutputError                the output cannot be written: exists, no permission, disk full
     │   ├─ OutputUsageError       its name says no format (also a SettingsError)
     │   ├─ EncoderError           no such encoder, or the container refuses it
     │   │   └─ EncoderUsageError  a value out of range, an unknown option (also a SettingsError)
     │   └─ TakenError             its name was taken meanwhile, so it has another one
     ├─ ModelError                 it cannot do what was asked of it
     │   ├─ ModelUsageError        it has no such option (also a SettingsError)
     │   ├─ UnknownModelError      no such model (also a SettingsError)
     │   └─ WeightsError           a weights file is missing, damaged, or another model's
     └─ DeviceError                the device is absent, or its memory is too small

:class:`Interrupted` stands apart: Ctrl-C is no error, and nothing that catches errors may catch it.

Every message is one clear sentence or two: what was given, what would be accepted, what to do.
Third-party exceptions are turned into these once, where they enter, with ``raise … from``.
"""

from cloudconv.messages import Word, keyword, rendered


class CloudconvError(Exception):
    """Base of all; the command line prints the message and exits with ``exit_code``.

    ``kind`` is what programs tell it by. A message may name options by
    :func:`cloudconv.messages.option`; its text shows them as keywords.
    """

    exit_code = 1
    kind = "other"

    @property
    def template(self) -> str:
        """The message, with placeholders for options."""
        return super().__str__()

    def text(self, word: Word = keyword) -> str:
        """Return the message; ``word`` shows the options in it."""
        return rendered(self.template, word)

    def __str__(self) -> str:
        return self.text()


class SettingsError(CloudconvError):
    """A setting is out of range, or two settings contradict each other."""

    exit_code = 2
    kind = "usage"


class InputError(CloudconvError):
    """The input cannot be read as video."""

    kind = "input"


class UnfitInputError(InputError):
    """The input changes, in size or while it is read: what was made of it so far is of no use."""


class PictureError(InputError, ValueError):
    """Pictures in memory have a kind, shape or number that is not taken."""


class OutputError(CloudconvError):
    """The output cannot be written."""

    kind = "output"


class OutputUsageError(SettingsError, OutputError):
    """The output's name says no format that is written."""


class EncoderError(OutputError):
    """The encoder, one of its options, or its place in the container is not available."""

    kind = "encoder"


class EncoderUsageError(SettingsError, EncoderError):
    """The encoder has no such option, or a value is out of its range."""


class TakenError(OutputError):
    """The output is whole, but something else has its name by now: it was given another one."""


class ModelError(CloudconvError):
    """The model cannot do what was asked."""

    kind = "model"


class ModelUsageError(SettingsError, ModelError):
    """The model has no such option, or takes other values."""


class UnknownModelError(SettingsError, ModelError):
    """No model has that name, or none of that name does what is wanted."""


class WeightsError(ModelError):
    """A weights file is missing, damaged, or belongs to another model."""

    kind = "weights"


class DeviceError(CloudconvError):
    """The device is not there, or it has too little memory for even one small tile."""

    kind = "device"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work that can be carried on.

    Args:
        kept: what is kept where, in clauses.
    """

    def __init__(self, *kept: str) -> None:
        super().__init__(f"interrupted; {' and '.join(kept)}; the same command carries on.")
        self.kept = kept
