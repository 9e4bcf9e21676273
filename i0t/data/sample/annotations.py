"""Write the sample's annotation files in the real data sets' layouts, from the records of the drawn images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from i0t.data.datasets import DATASETS
from i0t.data.sample.parts import Part
from i0t.data.sample.scenes import KINDS, PIXELS
from i0t.files import atomic_path, write_json
from i0t.paths import Roots

# Folders that are made, and so may be removed to make them again. Training puts checkpoints beside
# these, below data_dir; they stay.
OWNED = (
    "data_dir/sharegpt4v",
    "data_dir/zeroshot_datasets/birdsnap",
    "data_dir/pacscore_datasets/flickr8k",
    "data_dir_sub/PnP-VQA/lavis",
    "data_dir_sub/Evaluation",
)
# Data set, folder below its images, file name, and the number of the first image.
FILES = {
    Part.VALIDATION: ("sharegpt4v", "coco/train2017", "{:012d}.jpg", 1),
    Part.TRAIN: ("sharegpt4v", "coco/train2017", "{:012d}.jpg", 100_001),
    Part.FLICKR: ("flickr", "", "{}.jpg", 1_000_000_001),
    Part.COCO: ("coco", "", "COCO_val2014_{:012d}.jpg", 1),
    Part.NOCAPS: ("nocaps", "", "{:016x}.jpg", 0x5A3B_0001),
    Part.JUDGED: ("flickr8k_expert", "", "{}_5ca1ab1e.jpg", 2_000_000_001),
}

CLASSES = tuple(f"{colour}_{shape}".title() for colour, shape in KINDS)
# In the style of the short captions; {} is the class name in words, e.g. "red circle".
TEMPLATES = ("a big {}", "picture of a big {}", "big {}")
QUESTION = "<image>\nWhat does this picture show, and where?"


@dataclass
class Record:
    """The annotations of one image."""

    file: str  # base name
    captions: list[str] = field(default_factory=list)
    expert: list[dict[str, Any]] = field(default_factory=list)
    crowd: list[dict[str, Any]] = field(default_factory=list)


def image_path(root: Path, part: Part, index: int) -> Path:
    """Path of image `index` of a part."""
    if part is Part.CLASSES:
        copy, kind = divmod(index, len(KINDS))
        return _roots(root).below("main", DATASETS["birdsnap"].file) / CLASSES[kind] / f"{CLASSES[kind]}_{copy:04d}.jpg"
    name, folder, pattern, first = FILES[part]
    return _roots(root).below(DATASETS[name].root, DATASETS[name].pictures) / folder / pattern.format(first + index)


def write_annotations(root: Path, records: dict[Part, list[Record]], seed: int) -> None:
    """Write all files except the images."""
    places = {name: _roots(root).below(entry.root, entry.file) for name, entry in DATASETS.items()}
    _write_sharegpt4v(places["sharegpt4v"], records[Part.VALIDATION] + records[Part.TRAIN])
    _write_gold(places["flickr"], "flickr30k-images", records[Part.FLICKR])
    _write_gold(places["coco"], "val2014", records[Part.COCO])
    _write_nocaps(places["nocaps"], records[Part.NOCAPS], seed)
    _write_ratings(places["flickr8k_expert"], "expert", records[Part.JUDGED])
    _write_ratings(places["flickr8k_cf"], "crowd", records[Part.JUDGED])
    with atomic_path(places["birdsnap"].parent / "templates.txt") as path:
        path.write_text("".join(f"{template}\n" for template in TEMPLATES), encoding="utf-8")


def _roots(root: Path) -> Roots:
    return Roots(root / "data_dir", root / "data_dir_sub")


def _write_sharegpt4v(path: Path, records: list[Record]) -> None:
    content = [
        {
            "id": f"coco/{Path(record.file).stem}",
            "image": f"coco/train2017/{record.file}",
            "conversations": [
                {"from": "human", "value": QUESTION},
                {"from": "gpt", "value": record.captions[0]},
            ],
        }
        for record in records
    ]
    write_json(path, content)


def _write_gold(path: Path, folder: str, records: list[Record]) -> None:
    content = [{"image_id": f"{folder}/{record.file}", "captions": record.captions} for record in records]
    write_json(path, content)


def _write_nocaps(path: Path, records: list[Record], seed: int) -> None:
    """The official format. Images and annotations are in different order, because readers must join by id."""
    order = np.random.default_rng([seed, len(Part)]).permutation(len(records)).tolist()
    images = [{"id": index, "file_name": records[index].file, "width": PIXELS, "height": PIXELS} for index in order]
    pairs = [(index, caption) for index, record in enumerate(records) for caption in record.captions]
    annotations = [
        {"id": number, "image_id": index, "caption": caption} for number, (index, caption) in enumerate(pairs)
    ]
    write_json(path, {"images": images, "annotations": annotations})


def _write_ratings(path: Path, kind: str, records: list[Record]) -> None:
    content = {
        Path(record.file).stem: {
            "image_path": f"flickr8k/images/{record.file}",
            "ground_truth": record.captions,
            "human_judgement": getattr(record, kind),
        }
        for record in records
    }
    write_json(path, content)
