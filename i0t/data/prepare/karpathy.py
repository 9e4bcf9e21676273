"""COCO and Flickr30k in Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`.

His files list `{"filename", "filepath" (COCO alone), "split", "cocoid" (COCO alone), "sentences": [{"raw"}]}`. The
order of the sentences is kept: the 1-caption protocol takes the first.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from i0t.data.datasets import DATASETS
from i0t.data.prepare.coco_style import read_coco
from i0t.data.prepare.job import Job, first_in
from i0t.errors import I0TError
from i0t.files import check_json, read_json

CAPTIONS_PER_IMAGE = 5
FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "images", "Images")


class Sentence(BaseModel):
    """One caption."""

    raw: str


class Image(BaseModel):
    """One image of a split."""

    filename: str
    sentences: list[Sentence]
    cocoid: int | None = None

    @property
    def captions(self) -> list[str]:
        """In the file's order."""
        return [sentence.raw for sentence in self.sentences]


def prepare_coco(job: Job) -> list[str]:
    """Karpathy's 5 000 test images of COCO val2014, checked against COCO's own captions where they are there."""
    source = job.find_file("dataset_coco.json", "caption_datasets/dataset_coco.json")
    images = _images(source, "coco", "test")
    lines = [_compared(job, images, source)]
    folders = job.picture_folders("val2014", "images/val2014", "coco/images/val2014", ".")
    return lines + _write(job, images, folders, source)


def prepare_flickr(job: Job) -> list[str]:
    """Karpathy's test (1 000) or validation images (1 014) of Flickr30k."""
    source = job.find_file("dataset_flickr30k.json", "caption_datasets/dataset_flickr30k.json")
    images = _images(source, "flickr30k", DATASETS[job.dataset].preparation.split)
    return _write(job, images, job.picture_folders(*FLICKR_FOLDERS), source)


def _images(source: Path, dataset: str, split: str) -> list[Image]:
    """The images of a split, each with five captions or more."""
    content = read_json(source, f"Karpathy's splits of {dataset}")
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise I0TError(f'{source}: expected an object with a list "images" of objects. Is it another file?')
    if content.get("dataset", dataset) != dataset:
        raise I0TError(f"{source}: holds {content['dataset']}, not {dataset}.")
    images: dict[str, Image] = {}
    for number, row in enumerate(rows):
        if row.get("split") != split:
            continue
        place = f"{source}: images[{number}]"
        image = check_json(Image, row, place, '"filename" and "sentences" with "raw"')
        if len(image.sentences) < CAPTIONS_PER_IMAGE:
            count = len(image.sentences)
            raise I0TError(f"{place}: {image.filename} has {count} captions, the layout needs {CAPTIONS_PER_IMAGE}.")
        if image.filename in images:
            raise I0TError(f"{place}: {image.filename} is listed twice.")
        images[image.filename] = image
    if not images:
        found = ", ".join(sorted({str(row.get("split")) for row in rows}))
        raise I0TError(f"{source}: no image of the split {split!r}; it has {found}.")
    return list(images.values())


def _write(job: Job, images: list[Image], folders: list[Path], source: Path) -> list[str]:
    pairs = [(first_in(folders, image.filename), job.target / image.filename) for image in images]
    gold = [
        {"image_id": f"{job.target.name}/{image.filename}", "captions": image.captions[:CAPTIONS_PER_IMAGE]}
        for image in images
    ]
    count = sum(len(image.captions) for image in images)
    kept = f"{source.name}: {count} captions of {len(images)} images, the first {CAPTIONS_PER_IMAGE} of each kept"
    return [kept, *job.place_with_list(pairs, job.list_file, gold)]


def _compared(job: Job, images: list[Image], source: Path) -> str:
    """Compare Karpathy's COCO with COCO's own file; a line on the outcome.

    Raises:
        I0TError: an image is not in COCO's file, or under another name: the two do not belong together.
    """
    official = job.look_for("captions_val2014.json", "annotations/captions_val2014.json")
    if official is None:
        return "captions_val2014.json is not there: Karpathy's captions were not compared with COCO's own"
    content, captions = read_coco(official)
    names, differing = {row["id"]: row["file_name"] for row in content["images"]}, 0
    for image in images:
        name, identity = image.filename, image.cocoid
        if names.get(identity) != name:
            raise I0TError(
                f"{official}: {name} (cocoid {identity}) of {source.name} is not in it. Take COCO's val2014."
            )
        ours = {" ".join(text.split()) for text in image.captions}
        differing += len(ours - {" ".join(text.split()) for text in captions[identity]})
    return f"{official.name}: has all {len(images)} images; {differing} of Karpathy's captions read differently in it"
