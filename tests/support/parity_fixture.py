"""Rebuild the checkpoints of the parity fixtures from their seeds; `fixtures/README.md` describes them.

A fixture is one `.npz` file. Instead of weights it holds, for every tensor of the checkpoint, its key,
shape, dtype, offset and scale; the values are

    offset + scale * (2 * u - 1),    u = RandomState(seed + crc32(key)).random_sample(shape)

computed in float64 and then cast. NumPy keeps `RandomState` frozen, and `random_sample` only shifts and
divides integers, so every machine gets the same bits. Tensors that were measured rather than drawn
(calibrated BatchNorm statistics) and integer tensors are stored as they are; a tensor that the original
ties to an earlier one names that one instead.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "fixtures"
STORED = "tensor:"
TOLERANCE = 1e-5  # other CPU kernels than the original's differ by up to 2.4e-6


def largest_difference(ours: Tensor, original: np.ndarray) -> float:
    """Largest absolute difference of two arrays of one shape."""
    assert ours.shape == original.shape
    return float(np.abs(ours.numpy() - original).max())


def write_vocabulary(path: Path) -> Path:
    """A vocab.txt of BERT's size in which only the word pieces of the fixtures' captions are BERT's.

    Word pieces are found longest first, so captions whose pieces are all there get BERT's own ids.
    """
    pieces = {index: piece for piece, index in json.loads((FOLDER / "bert_pieces.json").read_text()).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{pieces.get(index, f'[left out {index}]')}\n" for index in range(30522)), "utf-8")
    return path


def draw(key: str, shape: list[int], offset: float, scale: float, seed: int) -> np.ndarray:
    """The float64 values of one checkpoint tensor.

    Args:
        key: name of the tensor; it takes part in the seed, so the order of tensors does not matter.
        shape: of the tensor, [] for a scalar.
        offset: centre of the uniform distribution.
        scale: half its width.
        seed: of the whole fixture.
    """
    stream = np.random.RandomState((seed + zlib.crc32(key.encode())) % 2**32)
    return offset + scale * (2.0 * stream.random_sample(tuple(shape)) - 1.0)


@dataclass(frozen=True)
class Fixture:
    """Inputs and outputs of the original code."""

    arrays: Mapping[str, np.ndarray]
    spec: Mapping[str, Any]

    @staticmethod
    @cache
    def read(name: str) -> Fixture:
        """Read a fixture by its name, e.g. "longclip"."""
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        spec = json.loads(str(arrays.pop("spec")))
        return Fixture(arrays=arrays, spec=spec)

    @property
    def captions(self) -> list[str]:
        """The captions, before any cleaning."""
        return list(self.spec["captions"])

    @property
    def pictures(self) -> list[Image.Image]:
        """The four images, three RGB and one grey."""
        return [Image.fromarray(self.arrays[f"picture_{index}"]) for index in range(4)]

    def tensor(self, name: str) -> Tensor:
        """One of the stored arrays (pixels, tokens, embeddings)."""
        return torch.from_numpy(self.arrays[name])

    def state_dict(self, part: str = "tensors") -> dict[str, Tensor]:
        """The flat state dict, keys in the order of the original file."""
        return dict(_state_dict(self.spec["name"], part))

    def _draw_all(self, part: str) -> dict[str, Tensor]:
        seed = self.spec["seed"]
        state: dict[str, Tensor] = {}
        for key, shape, dtype, offset, scale, *tied_to in self.spec[part]:
            if tied_to:
                state[key] = state[tied_to[0]]
            elif STORED + key in self.arrays:
                state[key] = torch.from_numpy(self.arrays[STORED + key])
            else:
                values = torch.from_numpy(np.asarray(draw(key, shape, offset, scale, seed)))
                state[key] = values.to(getattr(torch, dtype))
        return state

    def save(self, path: Path, part: str = "tensors", **changes: Tensor | None) -> Path:
        """Write the checkpoint as it is published, nesting and prefixes included, and return its path.

        Args:
            path: where to.
            part: "tensors", or the second file of a fixture that has one.
            **changes: tensors to add by key, or None to leave the key out.
        """
        state = {key: value for key, value in (self.state_dict(part) | changes).items() if value is not None}
        layout = self.spec["layout"].get(part, {})
        path.parent.mkdir(parents=True, exist_ok=True)
        if layout.get("torchscript"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
                torch.jit.save(_as_torchscript(state), str(path))
        else:
            torch.save(_as_published(state, layout), path)
        return path


@cache
def _state_dict(name: str, part: str) -> dict[str, Tensor]:
    return Fixture.read(name)._draw_all(part)


def _as_published(state: dict[str, Tensor], layout: Mapping[str, Any]) -> dict[str, Any]:
    state = {layout.get("prefix", "") + key: value for key, value in state.items()}
    if "nest" not in layout:
        return state
    optimizer = {"optimizer": _optimizer_state()} if layout.get("optimizer") else {}
    return {**layout.get("entries", {}), layout["nest"]: state, **optimizer}


def _optimizer_state() -> dict[str, Any]:
    """The state of a small AdamW after one step, in place of the saved one."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    return optimizer.state_dict()


def _as_torchscript(state: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """A TorchScript module without code that has this `state_dict`."""
    root = nn.Module()
    for key, value in state.items():
        *parents, leaf = key.split(".")
        module = root
        for name in parents:
            if not hasattr(module, name):
                module.add_module(name, nn.Module())
            module = getattr(module, name)
        module.register_buffer(leaf, value)
    return torch.jit.script(root)
