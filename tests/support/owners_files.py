"""Small files of the forms in which the data sets' owners publish them, made for a test."""

from __future__ import annotations

import hashlib
import json
import pickle
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR100

from i0t.data.datasets import DATASETS, Dataset, load_dataset
from i0t.paths import Roots


def list_file(name: str, root: Path) -> Path:
    """The file or folder of a data set, below the root that it needs."""
    return Roots(root, root).below(DATASETS[name].root, DATASETS[name].file)


def picture_folder(name: str, root: Path) -> Path:
    """Where the images of a data set lie."""
    return Roots(root, root).below(DATASETS[name].root, DATASETS[name].pictures)


def read(name: str, root: Path | None) -> Dataset:
    """Count the images that exist of a data set."""
    return load_dataset(name, Roots(root, root), allow_partial=True)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def put(path: Path, content: Any) -> Path:
    """Write JSON, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def pictures(folder: Path, names: Iterable[str]) -> None:
    """Write a tiny JPEG for each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / name, "JPEG")


def five(name: str, count: int = 5) -> list[str]:
    """Captions of an image."""
    return [f"caption {number} of {name}" for number in range(count)]


def coco_name(identity: int, year: str = "val2014") -> str:
    """COCO's file names: with the folder until 2014, plain since 2017."""
    return f"{identity:012d}.jpg" if year == "val2017" else f"COCO_{year}_{identity:012d}.jpg"


def karpathy_row(name: str, split: str, captions: int = 5, **more: Any) -> dict[str, Any]:
    """One image of Karpathy's files."""
    sentences = [{"tokens": text.split(), "raw": text, "imgid": 0, "sentid": 0} for text in five(name, captions)]
    return {"filename": name, "split": split, "imgid": 0, "sentids": [0], "sentences": sentences, **more}


def coco_style(names: dict[int, str], captions: int = 5, **more: Any) -> dict[str, Any]:
    """A caption file in COCO's form; annotations go round the images, as in COCO's own."""
    images = [
        {"license": 1, "id": identity, "file_name": name, "height": 8, "width": 8} for identity, name in names.items()
    ]
    pairs = [
        (identity, text)
        for turn in range(captions)
        for identity, text in ((i, five(n, captions)[turn]) for i, n in names.items())
    ]
    annotations = [
        {"id": 10 + row, "image_id": identity, "caption": text} for row, (identity, text) in enumerate(pairs)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, **more}


def coco_folder(folder: Path, test: dict[int, int], others: dict[int, str]) -> Path:
    """COCO val2014 as a user downloads it: test image -> its number of captions, other image -> its split."""
    rows = [karpathy_row(coco_name(i), split, filepath="val2014", cocoid=i) for i, split in others.items()]
    rows += [karpathy_row(coco_name(i), "test", captions, filepath="val2014", cocoid=i) for i, captions in test.items()]
    put(folder / "dataset_coco.json", {"images": rows, "dataset": "coco"})
    names = {i: coco_name(i) for i in [*test, *others]}
    official = coco_style(names)
    official["annotations"] = [
        {"id": number, "image_id": row["cocoid"], "caption": sentence["raw"]}
        for number, (row, sentence) in enumerate((row, sentence) for row in rows for sentence in row["sentences"])
    ]
    put(folder / "annotations" / "captions_val2014.json", official)
    pictures(folder / "val2014", names.values())
    return folder


def flickr_folder(folder: Path, rows: dict[str, str]) -> Path:
    """Flickr30k as a user downloads it: image -> split."""
    content = {"images": [karpathy_row(name, split) for name, split in rows.items()], "dataset": "flickr30k"}
    put(folder / "dataset_flickr30k.json", content)
    pictures(folder / "flickr30k-images", rows)
    return folder


def nocaps_rows(identities: dict[int, str]) -> dict[str, Any]:
    """NoCaps' validation file: id -> Open Images id; annotations are not in the order of the images."""
    content = coco_style({i: f"{name}.jpg" for i, name in identities.items()}, captions=10)
    for image, name in zip(content["images"], identities.values(), strict=True):
        image.update(open_images_id=name, coco_url=f"https://s3.example/nocaps/val/{name}.jpg", domain="near-domain")
    return content


def long_record(image: str) -> dict[str, Any]:
    """One record in ShareGPT4V's form."""
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": f"It is {image}. It is red."}]
    return {"id": Path(image).stem, "image": image, "conversations": talk}


def flickr8k_texts(folder: Path) -> Path:
    """Flickr8k's own text files: three images, two captions each, one own caption among the candidates."""
    names = ["100_aa.jpg", "200_bb.jpg", "300_cc.jpg"]
    tokens = [f"{name}#{number}\tA dog {number} of {name} ." for name in names for number in range(2)]
    put(folder / "Flickr8k.token.txt", "\n".join(tokens) + "\n")
    expert = [
        "100_aa.jpg\t200_bb.jpg#1\t1\t1\t2",
        "100_aa.jpg\t100_aa.jpg#0\t4\t4\t4",
        "200_bb.jpg\t300_cc.jpg#0\t2\t3\t1",
    ]
    put(folder / "ExpertAnnotations.txt", "\n".join(expert) + "\n")
    crowd = [
        "100_aa.jpg\t100_aa.jpg#1\t1\t3\t0",
        "100_aa.jpg\t200_bb.jpg#0\t0.333333\t1\t2",
        "300_cc.jpg\t100_aa.jpg#0\t0\t0\t3",
    ]
    put(folder / "CrowdFlowerAnnotations.txt", "\n".join(crowd) + "\n")
    pictures(folder / "Flicker8k_Dataset", names)
    return folder


def cifar_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a tiny cifar-100-python and its archive, and give torchvision their check sums; return the folder."""
    content = folder / "cifar-100-python"
    content.mkdir(parents=True)
    for split, count in (("train", 2), ("test", 3)):
        data = {"data": np.zeros((count, 3072), np.uint8), "fine_labels": list(range(count))}
        (content / split).write_bytes(pickle.dumps(data))
    names = [f"class_{number}" for number in range(100)]
    (content / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    archive = folder / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(content, "cifar-100-python")
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (*content.iterdir(), archive)}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5["meta"]})
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5[archive.name])
    return content
