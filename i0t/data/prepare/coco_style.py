"""Files in COCO's own form, through pycocotools: COCO val2017 and NoCaps' validation set."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path, PurePosixPath
from typing import Any

from pycocotools.coco import COCO

from i0t.data.captions import caption_file, picture_folder
from i0t.data.prepare.job import Job, entries, first_in
from i0t.errors import I0TError
from i0t.files import read_json

COCO_CAPTIONS, NOCAPS_CAPTIONS = 5, 10


def read_coco(path: Path) -> COCO:
    """A caption file in COCO's form, indexed by image.

    Raises:
        I0TError: the file is missing or of another form.
    """
    content = read_json(path, "captions in COCO's form")
    entries(content, "images", path)
    if "annotations" not in content:
        raise I0TError(f'{path}: lists images, but has no "annotations". Take the file with the captions.')
    coco = COCO()
    coco.dataset = content
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress by print
            coco.createIndex()
    except (KeyError, TypeError) as error:
        raise I0TError(f"{path}: not in COCO's form ({error!r}).") from None
    return coco


def captions_of(coco: COCO, image: int, path: Path) -> list[str]:
    """The captions of an image, in the order of the file.

    Raises:
        I0TError: an annotation without a caption.
    """
    captions = [annotation.get("caption") for annotation in coco.imgToAnns.get(image, [])]
    if not all(isinstance(caption, str) for caption in captions):
        raise I0TError(f'{path}: an annotation of image {image} has no "caption". Take the file with the captions.')
    return captions


def prepare_val2017(job: Job) -> list[str]:
    """The 5 000 images of COCO val2017, with the first five captions of each."""
    source = job.find_file("captions_val2017.json", "annotations/captions_val2017.json")
    coco = read_coco(source)
    folders = job.picture_folders("val2017", "images/val2017", "coco/images/val2017", ".")
    target = picture_folder(job.dataset, job.roots.data_dir_sub)
    gold, pairs = [], []
    for image in coco.imgs.values():
        name, captions = _name(image, source), captions_of(coco, image["id"], source)
        if len(captions) < COCO_CAPTIONS:
            raise I0TError(f"{source}: {name} has {len(captions)} captions, the layout needs {COCO_CAPTIONS}.")
        gold.append({"image_id": f"{target.name}/{name}", "captions": captions[:COCO_CAPTIONS]})
        pairs.append((first_in(folders, name), target / name))
    return job.place_with_list(pairs, caption_file(job.dataset, job.roots.data_dir_sub), gold)


def prepare_nocaps(job: Job) -> list[str]:
    """NoCaps' validation set: the official file, its captions put in the order of its images.

    The pictures come from Open Images, and copies name them by `file_name`, by `open_images_id` or as their
    address ends; each of these is found, and linked under `file_name`, as the layout has it.
    """
    source = job.find_file(
        "nocaps_val_4500_captions.json", "annotations/nocaps_val_4500_captions.json", "NoCaps_GOLD.json"
    )
    coco = read_coco(source)
    folders = job.picture_folders("val", "images/val", "validation", "nocaps/images/val", "images", ".")
    target = picture_folder(job.dataset, job.roots.data_dir_sub)
    pairs, annotations = [], []
    for image in coco.imgs.values():
        name, captions = _name(image, source), captions_of(coco, image["id"], source)
        if len(captions) != NOCAPS_CAPTIONS:
            raise I0TError(f"{source}: {name} has {len(captions)} captions, NoCaps has {NOCAPS_CAPTIONS} of each.")
        pairs.append((first_in(folders, *_aliases(image, name)), target / name))
        annotations += coco.imgToAnns[image["id"]]
    _refuse_strays(coco, source)
    ordered = {**coco.dataset, "images": list(coco.imgs.values()), "annotations": annotations}
    moved = "already in the order of the images" if annotations == coco.dataset["annotations"] else "put in order"
    lines = job.place_with_list(pairs, caption_file(job.dataset, job.roots.data_dir_sub), ordered)
    return [f"{source.name}: {len(annotations)} captions, {moved}", *lines]


def _aliases(image: dict[str, Any], name: str) -> list[str]:
    address = PurePosixPath(str(image.get("coco_url", ""))).name
    identity = f"{image['open_images_id']}.jpg" if "open_images_id" in image else ""
    return list(dict.fromkeys(alias for alias in (name, identity, address) if alias))


def _refuse_strays(coco: COCO, source: Path) -> None:
    strays = [image for image in coco.imgToAnns if image not in coco.imgs]
    if strays:
        raise I0TError(f"{source}: captions of image {strays[0]}, which it does not list. Download it again.")


def _name(image: dict[str, Any], source: Path) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise I0TError(f'{source}: image {image.get("id")} has no "file_name".')
    return PurePosixPath(name).name
