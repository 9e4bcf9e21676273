"""Distinct training pairs: one-colour images, each with the number of its colour as caption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from i0t.data.datasets import DATASETS
from i0t.training.batches import BatchOptions

TALK = [{"from": "human", "value": "What?"}]


def write_sharegpt4v(folder: Path, count: int, missing: int = 0, corrupt: tuple[int, ...] = ()) -> Path:
    """`count` records with one-colour images; the last ones are missing, some damaged."""
    records = []
    for row in range(count):
        name = f"coco/train2017/{row:03d}.png"
        records.append({"image": name, "conversations": [*TALK, {"from": "gpt", "value": f"Picture {row}. More."}]})
        path = folder / "sharegpt4v" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if row < count - missing:
            Image.new("RGB", (4, 4), (row, 0, 0)).save(path)
        if row in corrupt:
            path.write_bytes(path.read_bytes()[:20])
    (folder / DATASETS["sharegpt4v"].file).write_text(json.dumps(records))
    return folder / DATASETS["sharegpt4v"].file


def preprocess(image: Image.Image) -> torch.Tensor:
    """Encode an image by its red value, which identifies it."""
    return torch.tensor(image.getpixel((0, 0))[0])


def tokenize(texts: list[str]) -> torch.Tensor:
    """The number in the caption."""
    return torch.tensor([int("".join(filter(str.isdigit, text))) for text in texts])


def options(**changes: object) -> BatchOptions:
    """Batches of four pairs."""
    plain = BatchOptions(preprocess, tokenize, False, batch_size=4, first_step=0, total_steps=10, seed=3)
    return replace(plain, **changes)
