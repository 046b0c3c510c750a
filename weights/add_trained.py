"""Convert weights of ``cloudconv train`` to float16, and add them to the shipped ones.

    python weights/add_trained.py SCORES.json trained/*.safetensors

SCORES.json maps the name of a manifest entry to the measured scores. Run the command in the
root of a checkout.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cloudconv.models import registry
from cloudconv.models.catalogue import ModelSpec

HERE = Path(__file__).resolve().parent
DATA = (
    "clips/train: 113 clips and five picture sequences from public repositories, not "
    "redistributed; licences of the repositories: none stated 63, MIT 19, CC BY-NC 9, BSD "
    "8, CC BY 4.0 7, Apache-2.0 4, GPL 3, DAVIS (non-commercial research) 3, other 2; "
    "clips/clouds.mp4, its first 65 %: none stated; see the recipe for what this model saw"
)

FROM_RIFE = (
    "cloudconv: fine-tuned from rife-4.6 (Zhewei Huang and the authors of RIFE, MIT: "
    "LICENSES/rife-4.6.txt)"
)

_COMMANDS = {
    "cloud-best": "cloudconv train --recipe weights/recipes/cloud-best.toml && python "
    "weights/mix.py weights/rife-4.6.safetensors cloud-best.safetensors "
    "mixed.safetensors --only block2.",
    "cloud-fast": "cloudconv train --recipe weights/recipes/cloud-best.toml && python "
    "weights/cut_fast.py cloud-best.safetensors cloud-fast.safetensors",
}


def add(path: Path, scores: dict[str, dict[str, float]]) -> ModelSpec:
    """Copy one file into the weights folder, and write its entry in the manifest."""
    spec = registry.spec(str(path))
    assert spec.weights is not None, f"{spec.name} needs no weights"
    state = {k: v.to(torch.float16).contiguous() for k, v in load_file(path).items()}
    target = HERE / f"{spec.weights}.safetensors"
    save_file(state, target, {"model": spec.name, "task": spec.task})
    data = target.read_bytes()
    manifest = HERE / "manifest.json"
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    entries[spec.weights] = {
        "file": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "parameters": spec.parameters,
        "dtype": "float16",
        "model": spec.name,
        "licence": spec.licence,
        "licence_file": "LICENSES/cloudconv.txt",
        "origin": [
            FROM_RIFE if "RIFE" in spec.origin else "cloudconv: trained from scratch"
        ],
        "training_data": DATA,
        "command": _COMMANDS.get(
            spec.name, f"cloudconv train --recipe weights/recipes/{spec.weights}.toml"
        ),
        "scores": scores,
    }
    manifest.write_text(
        json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return spec


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    scores = json.loads(given.scores.read_text(encoding="utf-8"))
    for path in given.files:
        name = registry.spec(str(path)).weights
        assert name is not None, f"{path.name} is of a model without weights"
        spec = add(path, scores[name])
        print(f"{spec.name}: {spec.weights}.safetensors")


if __name__ == "__main__":
    main()
