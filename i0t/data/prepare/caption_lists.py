"""COCO, Flickr30k, NoCaps and ShareGPT4V: caption lists, from the files that their owners publish.

COCO and Flickr30k are taken in Karpathy's splits. His `dataset_coco.json` and `dataset_flickr30k.json` list
`{"filename", "filepath" (COCO alone), "split", "cocoid" (COCO alone), "sentences": [{"raw"}]}`. The order of the
sentences is kept: the 1-caption protocol takes the first. COCO val2017 and NoCaps come in COCO's own format.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from i0t.data.caption_index import stream_pairs
from i0t.data.captions import CocoCaptions, Words, refuse_same_file
from i0t.data.prepare.job import Job, first_in, link, place_file, refuse_another
from i0t.errors import I0TError
from i0t.reading import check_json, read_json

CAPTIONS_PER_IMAGE, NOCAPS_CAPTIONS = 5, 10
FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "images", "Images")

# Folders of ShareGPT4V's layout, and where they may be below --from: in that layout, or as archives unpack.
SHAREGPT4V_FOLDERS = {
    "coco/train2017": ("coco/train2017", "train2017"),
    "llava/llava_pretrain/images": ("llava/llava_pretrain/images", "LLaVA-Pretrain/images", "llava_pretrain/images"),
    "sam/images": ("sam/images", "sam"),
}


class Sentence(BaseModel):
    """One caption."""

    raw: Words


class Image(BaseModel):
    """One image of a split."""

    filename: str
    sentences: list[Sentence]
    cocoid: int | None = None

    @property
    def captions(self) -> list[str]:
        """The captions, in the order of the file."""
        return [sentence.raw for sentence in self.sentences]


def prepare_coco(job: Job) -> list[str]:
    """Prepare Karpathy's 5 000 test images of COCO val2014; compare with COCO's own captions, if they are there."""
    source = job.find_file("dataset_coco.json", "caption_datasets/dataset_coco.json")
    images = _images(source, "coco", "test")
    lines = [_compared(job, images, source)]
    folders = job.image_folders("val2014", "images/val2014", "coco/images/val2014", ".")
    return lines + _write(job, images, folders, source)


def prepare_flickr(job: Job) -> list[str]:
    """Prepare Karpathy's test (1 000) or validation images (1 014) of Flickr30k."""
    source = job.find_file("dataset_flickr30k.json", "caption_datasets/dataset_flickr30k.json")
    images = _images(source, "flickr30k", "val" if job.dataset == "flickr_val" else "test")
    return _write(job, images, job.image_folders(*FLICKR_FOLDERS), source)


def _images(source: Path, dataset: str, split: str) -> list[Image]:
    """Read the images of a split; each must have five captions or more."""
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
    refuse_same_file([image.filename for image in images], source)
    pairs = [(first_in(folders, image.filename), job.target / image.filename) for image in images]
    gold = [
        {"image_id": f"{job.target.name}/{image.filename}", "captions": image.captions[:CAPTIONS_PER_IMAGE]}
        for image in images
    ]
    count = sum(len(image.captions) for image in images)
    kept = f"{source.name}: {count} captions of {len(images)} images, the first {CAPTIONS_PER_IMAGE} of each kept"
    return [kept, *job.place_with_list(pairs, job.list_file, gold)]


def _compared(job: Job, images: list[Image], source: Path) -> str:
    """Compare Karpathy's COCO with COCO's own file; return a line about the result.

    Raises:
        I0TError: an image is not in COCO's file, or has another name there.
    """
    official = job.look_for("captions_val2014.json", "annotations/captions_val2014.json")
    if official is None:
        return "captions_val2014.json is not there: Karpathy's captions were not compared with COCO's own"
    content, captions = read_coco(official)
    names, differing = {str(row["id"]): row["file_name"] for row in content["images"]}, 0
    for image in images:
        name, identity = image.filename, str(image.cocoid)
        if names.get(identity) != name:
            raise I0TError(
                f"{official}: {name} (cocoid {identity}) of {source.name} is not in it. Take COCO's val2014."
            )
        ours = {" ".join(text.split()) for text in image.captions}
        differing += len(ours - {" ".join(text.split()) for text in captions[identity]})
    return f"{official.name}: has all {len(images)} images; {differing} of Karpathy's captions read differently in it"


def read_coco(path: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Read a caption file in COCO's format; return its content, and the captions by image id.

    Raises:
        I0TError: the file is missing or has another form, or a caption belongs to no image.
    """
    content = read_json(path, "captions in COCO's form")
    captions = check_json(CocoCaptions, content, path, "captions in COCO's form").by_image(path)
    if not captions:
        raise I0TError(f"{path}: lists no image.")
    return content, captions


def prepare_val2017(job: Job) -> list[str]:
    """Prepare the 5 000 images of COCO val2017, with the first five captions per image."""
    source = job.find_file("captions_val2017.json", "annotations/captions_val2017.json")
    content, captions = read_coco(source)
    folders = job.image_folders("val2017", "images/val2017", "coco/images/val2017", ".")
    gold, pairs = [], []
    for image in content["images"]:
        name, own = PurePosixPath(image["file_name"]).name, captions[str(image["id"])]
        if len(own) < CAPTIONS_PER_IMAGE:
            raise I0TError(f"{source}: {name} has {len(own)} captions, the layout needs {CAPTIONS_PER_IMAGE}.")
        gold.append({"image_id": f"{job.target.name}/{name}", "captions": own[:CAPTIONS_PER_IMAGE]})
        pairs.append((first_in(folders, name), job.target / name))
    return job.place_with_list(pairs, job.list_file, gold)


def prepare_nocaps(job: Job) -> list[str]:
    """Prepare NoCaps' validation set: the official file, with captions in the order of the images.

    The images come from Open Images; copies name them by `file_name`, by `open_images_id` or by the end of their
    address. Each of these is found, and linked under `file_name`.
    """
    source = job.find_file(
        "nocaps_val_4500_captions.json", "annotations/nocaps_val_4500_captions.json", "NoCaps_GOLD.json"
    )
    content, captions = read_coco(source)
    folders = job.image_folders("val", "images/val", "validation", "nocaps/images/val", "images", ".")
    pairs = []
    for image in content["images"]:
        name, count = PurePosixPath(image["file_name"]).name, len(captions[str(image["id"])])
        if count != NOCAPS_CAPTIONS:
            raise I0TError(f"{source}: {name} has {count} captions, NoCaps has {NOCAPS_CAPTIONS} of each.")
        pairs.append((first_in(folders, *_aliases(image, name)), job.target / name))
    place = {identity: number for number, identity in enumerate(captions)}
    annotations = sorted(content["annotations"], key=lambda row: place[str(row["image_id"])])
    moved = "already in the order of the images" if annotations == content["annotations"] else "put in order"
    lines = job.place_with_list(pairs, job.list_file, {**content, "annotations": annotations})
    return [f"{source.name}: {len(annotations)} captions, {moved}", *lines]


def _aliases(image: dict[str, Any], name: str) -> list[str]:
    address = PurePosixPath(str(image.get("coco_url", ""))).name
    identity = f"{image['open_images_id']}.jpg" if "open_images_id" in image else ""
    return list(dict.fromkeys(alias for alias in (name, identity, address) if alias))


def prepare_sharegpt4v(job: Job) -> list[str]:
    """Link the file and its image folders; the census, which takes long, counts missing images later.

    With `--copy` only the file is copied: the images of SAM alone have half a terabyte.
    """
    target = job.list_file
    source = job.find_file(target.name)
    next(stream_pairs(source))  # raises an error for another form before anything is linked
    refuse_another(source, target)
    lines = _link_folders(job)
    new = place_file(source, target, job.copy)
    return [*lines, f"{target}: {'placed' if new else 'already there'}"]


def _link_folders(job: Job) -> list[str]:
    roots = [job.pictures] if job.pictures else [job.folder / "data", job.folder]
    lines = []
    for place, names in SHAREGPT4V_FOLDERS.items():
        target = job.target / place
        there = next((root / name for name in names for root in roots if (root / name).is_dir()), None)
        if target.is_dir() and (there is None or not target.is_symlink() or target.samefile(there)):
            lines.append(f"{place}: already there")
        elif there is None:
            lines.append(f"{place}: not in {roots[-1]}")
        else:
            link(there, target)
            lines.append(f"{place}: linked to {there}")
    return lines
