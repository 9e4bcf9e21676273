"""Where everything lies and how it is written: the layouts of the real data sets.

FILES says where the pictures of each part go; `write_annotations` writes the JSON and text files
from the records that drawing the pictures gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from i0t.data.sample.scenes import KINDS, PIXELS
from i0t.data.sample.splits import Split
from i0t.files import atomic_path, write_json

SHAREGPT4V = "data_dir/sharegpt4v"
BIRDSNAP = "data_dir/zeroshot_datasets/birdsnap"
FLICKR8K = "data_dir/pacscore_datasets/flickr8k"
PICTURES = "data_dir_sub/PnP-VQA/lavis"
CAPTIONS = "data_dir_sub/Evaluation"
# Everything that is made, and so may be removed to make it again. Training puts checkpoints beside
# these, below data_dir; those are not ours to touch.
OWNED = (SHAREGPT4V, BIRDSNAP, FLICKR8K, PICTURES, CAPTIONS)

# Folder, file name and the number of the first picture. Training and validation share a folder.
FILES = {
    Split.VALIDATION: (f"{SHAREGPT4V}/data/coco/train2017", "{:012d}.jpg", 1),
    Split.TRAIN: (f"{SHAREGPT4V}/data/coco/train2017", "{:012d}.jpg", 100_001),
    Split.FLICKR: (f"{PICTURES}/flickr30k/images/flickr30k-images", "{}.jpg", 1_000_000_001),
    Split.COCO: (f"{PICTURES}/coco/images/val2014", "COCO_val2014_{:012d}.jpg", 1),
    Split.NOCAPS: (f"{PICTURES}/nocaps/images/val", "{:016x}.jpg", 0x5A3B_0001),
    Split.JUDGED: (f"{FLICKR8K}/images", "{}_5ca1ab1e.jpg", 2_000_000_001),
}

CLASSES = tuple(f"{colour}_{shape}".title() for colour, shape in KINDS)
# In the style of the short captions; {} is the class name in words, e.g. "red circle".
TEMPLATES = ("a big {}", "picture of a big {}", "big {}")
QUESTION = "<image>\nWhat does this picture show, and where?"


@dataclass
class Record:
    """What the annotation files say of one picture."""

    file: str  # base name
    captions: list[str] = field(default_factory=list)
    expert: list[dict] = field(default_factory=list)
    crowd: list[dict] = field(default_factory=list)


def picture_path(root: Path, split: Split, index: int) -> Path:
    """Where picture `index` of a part goes."""
    if split is Split.CLASSES:
        copy, kind = divmod(index, len(KINDS))
        return root / BIRDSNAP / "test" / CLASSES[kind] / f"{CLASSES[kind]}_{copy:04d}.jpg"
    folder, name, first = FILES[split]
    return root / folder / name.format(first + index)


def write_annotations(root: Path, records: dict[Split, list[Record]], seed: int) -> None:
    """Write every file that is not a picture."""
    _write_sharegpt4v(root / SHAREGPT4V, records[Split.VALIDATION] + records[Split.TRAIN])
    _write_gold(
        root / CAPTIONS / "Flickr_Captions/NewCaptions/Flickr_GOLD.json",
        "flickr30k-images",
        records[Split.FLICKR],
    )
    _write_gold(root / CAPTIONS / "COCO_Captions/NewCaptions/COCO_GOLD.json", "val2014", records[Split.COCO])
    _write_nocaps(root / CAPTIONS / "Nocaps_Captions/NewCaptions/NoCaps_GOLD.json", records[Split.NOCAPS], seed)
    _write_judgments(root / FLICKR8K, records[Split.JUDGED])
    with atomic_path(root / BIRDSNAP / "templates.txt") as path:
        path.write_text("".join(f"{template}\n" for template in TEMPLATES), encoding="utf-8")


def _write_sharegpt4v(folder: Path, records: list[Record]) -> None:
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
    write_json(folder / "share-captioner_coco_lcs_sam_1246k_1107.json", content)


def _write_gold(path: Path, folder: str, records: list[Record]) -> None:
    content = [{"image_id": f"{folder}/{record.file}", "captions": record.captions} for record in records]
    write_json(path, content)


def _write_nocaps(path: Path, records: list[Record], seed: int) -> None:
    """The official form. Images are listed in another order than annotations, as readers join by id."""
    order = np.random.default_rng([seed, len(Split)]).permutation(len(records)).tolist()
    images = [{"id": index, "file_name": records[index].file, "width": PIXELS, "height": PIXELS} for index in order]
    pairs = [(index, caption) for index, record in enumerate(records) for caption in record.captions]
    annotations = [
        {"id": number, "image_id": index, "caption": caption} for number, (index, caption) in enumerate(pairs)
    ]
    write_json(path, {"images": images, "annotations": annotations})


def _write_judgments(folder: Path, records: list[Record]) -> None:
    for name, ratings in (("flickr8k.json", "expert"), ("crowdflower_flickr8k.json", "crowd")):
        content = {
            Path(record.file).stem: {
                "image_path": f"flickr8k/images/{record.file}",
                "ground_truth": record.captions,
                "human_judgement": getattr(record, ratings),
            }
            for record in records
        }
        write_json(folder / name, content)
