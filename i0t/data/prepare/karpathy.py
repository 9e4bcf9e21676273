"""COCO and Flickr30k in Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`.

His files list `{"filename", "filepath" (COCO alone), "split", "cocoid" (COCO alone), "sentences": [{"raw"}]}`. The
order of the sentences is kept: the 1-caption protocol takes the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from i0t.data.captions import caption_file, picture_folder
from i0t.data.prepare.coco_style import captions_of, read_coco
from i0t.data.prepare.job import Job, entries, first_in
from i0t.errors import I0TError
from i0t.files import read_json

CAPTIONS_PER_IMAGE = 5
FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "images", "Images")


def prepare_coco(job: Job) -> list[str]:
    """Karpathy's 5 000 test images of COCO val2014, checked against COCO's own captions where they are there."""
    source = job.find_file("dataset_coco.json", "caption_datasets/dataset_coco.json")
    rows = _rows(source, "coco", "test")
    lines = [_compared(job, rows, source)]
    folders = job.picture_folders("val2014", "images/val2014", "coco/images/val2014", ".")
    return lines + _write(job, rows, folders, source)


def prepare_flickr(job: Job) -> list[str]:
    """Karpathy's test (1 000) or validation images (1 014) of Flickr30k."""
    source = job.find_file("dataset_flickr30k.json", "caption_datasets/dataset_flickr30k.json")
    rows = _rows(source, "flickr30k", "val" if job.dataset == "flickr_val" else "test")
    return _write(job, rows, job.picture_folders(*FLICKR_FOLDERS), source)


def _rows(source: Path, dataset: str, split: str) -> list[dict[str, Any]]:
    """The entries of a split, each with a file name and five captions or more."""
    content = read_json(source, f"Karpathy's splits of {dataset}")
    images = entries(content, "images", source)
    if content.get("dataset", dataset) != dataset:
        raise I0TError(f"{source}: holds {content['dataset']}, not {dataset}.")
    rows = [(number, row) for number, row in enumerate(images) if row.get("split") == split]
    if not rows:
        found = ", ".join(sorted({str(row.get("split")) for row in images}))
        raise I0TError(f"{source}: no image of the split {split!r}; it has {found}.")
    seen: set[str] = set()
    for number, row in rows:
        place = f"{source}: images[{number}]"
        try:
            name, sentences = row["filename"], [sentence["raw"] for sentence in row["sentences"]]
            if not isinstance(name, str) or not all(isinstance(text, str) for text in sentences):
                raise TypeError("not text")
        except (KeyError, TypeError) as error:
            raise I0TError(f'{place}: expected "filename" and "sentences" with "raw" ({error!r}).') from None
        if len(sentences) < CAPTIONS_PER_IMAGE:
            raise I0TError(f"{place}: {name} has {len(sentences)} captions, the layout needs {CAPTIONS_PER_IMAGE}.")
        if name in seen:
            raise I0TError(f"{place}: {name} is listed twice.")
        seen.add(name)
    return [row for _, row in rows]


def _write(job: Job, rows: list[dict[str, Any]], folders: list[Path], source: Path) -> list[str]:
    target = picture_folder(job.dataset, job.roots.data_dir_sub)
    names = [row["filename"] for row in rows]
    pairs = [(first_in(folders, name), target / name) for name in names]
    sentences = [[sentence["raw"] for sentence in row["sentences"]] for row in rows]
    gold = [
        {"image_id": f"{target.name}/{name}", "captions": captions[:CAPTIONS_PER_IMAGE]}
        for name, captions in zip(names, sentences, strict=True)
    ]
    given = sum(map(len, sentences))
    kept = f"{source.name}: {given} captions of {len(rows)} images, the first {CAPTIONS_PER_IMAGE} of each kept"
    return [kept, *job.place_with_list(pairs, caption_file(job.dataset, job.roots.data_dir_sub), gold)]


def _compared(job: Job, rows: list[dict[str, Any]], source: Path) -> str:
    """Compare Karpathy's COCO with COCO's own file; a line on the outcome.

    Raises:
        I0TError: an image is not in COCO's file, or under another name: the two do not belong together.
    """
    official = job.look_for("captions_val2014.json", "annotations/captions_val2014.json")
    if official is None:
        return "captions_val2014.json is not there: Karpathy's captions were not compared with COCO's own"
    coco, differing = read_coco(official), 0
    for row in rows:
        name, image = row["filename"], row.get("cocoid")
        if image not in coco.imgs or coco.imgs[image].get("file_name") != name:
            raise I0TError(f"{official}: {name} (cocoid {image}) of {source.name} is not in it. Take COCO's val2014.")
        ours = {" ".join(sentence["raw"].split()) for sentence in row["sentences"]}
        differing += len(ours - {" ".join(text.split()) for text in captions_of(coco, image, official)})
    return f"{official.name}: has all {len(rows)} images; {differing} of Karpathy's captions read differently in it"
