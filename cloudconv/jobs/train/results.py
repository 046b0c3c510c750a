"""Write the weights and the checkpoint of a training, and continue from a checkpoint."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
from torch import Tensor

from cloudconv import checkpoints, errors, files
from cloudconv.jobs.madeof import Made, difference
from cloudconv.jobs.video import check_outputs
from cloudconv.media.writing.output import check_free, check_home, writing
from cloudconv.models.catalogue import ModelSpec
from cloudconv.settings import TrainSettings
from cloudconv.training import loop


@dataclass(slots=True)
class Results:
    """The files that a training writes: the checkpoint, and the best weights.

    ``made`` is what the training is made of. ``written`` are hashes of the outputs
    that this training may replace: its newest, and the one before if it is killed in
    between.
    """

    output: Path
    checkpoint: Path
    trainer: loop.Trainer
    made: Made
    written: list[str] = field(default_factory=list)

    def resume(self) -> None:
        """Continue the training of the checkpoint.

        Raises SettingsError if that training had other settings or files.
        """
        checkpoint = self.checkpoint
        with loop.load_checkpoint(checkpoint, self.trainer.device) as state:
            changed = difference(self.trainer.settings, state["made"], self.made)
            if changed:
                raise errors.SettingsError(
                    f"checkpoint-of-other-run: {checkpoint} belongs to a run that differs "
                    f"in {changed}: give the same settings and files, or start again with "
                    "--no-resume."
                )
            self.trainer.restore(state)
            self.written = list(state["written"])

    def save(self) -> None:
        """Write the checkpoint."""
        state = {**self.trainer.state(), "made": self.made, "written": self.written}
        with writing(self.checkpoint):
            loop.save_checkpoint(self.checkpoint, state, of=self.output)

    def write(self, initial: loop.Validation, best: loop.Validation) -> None:
        """Write the best weights, with their scores, and the checkpoint."""
        settings = self.trainer.settings
        left_out = ("output", "recipe", "resume", "overwrite")
        recipe = {k: v for k, v in asdict(settings).items() if k not in left_out}
        metadata = {
            "steps": str(best.step),
            "scores": json.dumps({k: v for k, v in asdict(best).items() if k != "step"}),
            "gained": f"{best.gain - initial.gain:.4f}",
            "recipe": json.dumps(recipe, default=str),
        }
        data = stored(self.trainer.best_state, self.trainer.model.spec, metadata)
        output = self.output
        checkpoint = self.checkpoint
        self.written = [*self.written[-1:], hashlib.sha256(data).hexdigest()]
        self.save()
        replaces = settings.overwrite or _digest(output) in self.written
        try:
            with writing(output):
                files.write_whole(output, data, overwrite=replaces)
        except errors.OutputError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            raise errors.OutputError(
                f"weights-appeared: Another program made {output} during the training, and "
                f"that file is left as it is. The training so far is kept in {checkpoint}: "
                "move the file away and run the command again."
            ) from error


def check_files(output: Path, checkpoint: Path, settings: TrainSettings) -> None:
    """Raise an error if a training may not write its files.

    The output may only exist if a training that is resumed has written that output.
    """
    resumes = settings.resume and checkpoint.exists()
    if os.path.lexists(checkpoint) and not loop.is_checkpoint(checkpoint):
        raise errors.InputError(
            f"checkpoint-foreign: The checkpoint {checkpoint} is damaged, of another "
            "version, or another program's file: move it away, or name another output."
        )
    if os.path.lexists(output) and not settings.overwrite:
        own = loop.written_outputs(checkpoint) if resumes else []
        if _digest(output) not in own:
            check_free(output, overwrite=False)
    check_home(output)
    recipe = [] if settings.recipe is None else [Path(settings.recipe)]
    check_outputs(settings, [output, checkpoint], recipe)


def _digest(path: Path) -> str | None:
    with suppress(errors.WeightsError):  # there is no file that can be read
        return checkpoints.digest(path)
    return None


def stored(
    state: Mapping[str, Tensor], spec: ModelSpec, metadata: Mapping[str, str]
) -> bytes:
    """Return the content of a file of weights."""
    about = {"model": spec.name, "task": spec.task, **metadata}
    if spec.task == "interpolate" and not spec.arbitrary_timestep:
        about["timesteps"] = "middle"
    # safetensors refuses tensors with common memory, which `half` and `cpu` may return.
    stored = {
        name: (tensor.half() if tensor.is_floating_point() else tensor)
        .cpu()
        .contiguous()
        .clone()
        for name, tensor in state.items()
    }
    return safetensors.torch.save(stored, about)
