"""Files of captions in COCO's own form: COCO val2017 and NoCaps' validation set."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from i0t.data.captions import CocoCaptions
from i0t.data.prepare.job import Job, first_in
from i0t.errors import I0TError
from i0t.files import check_json, read_json

COCO_CAPTIONS, NOCAPS_CAPTIONS = 5, 10


def read_coco(path: Path) -> tuple[dict[str, Any], dict[Any, list[str]]]:
    """A caption file in COCO's form, and the captions of each image id.

    Raises:
        I0TError: the file is missing or of another form, or a caption belongs to no image.
    """
    content = read_json(path, "captions in COCO's form")
    captions = check_json(CocoCaptions, content, path, "captions in COCO's form").by_image(path)
    if not captions:
        raise I0TError(f"{path}: lists no image.")
    return content, captions


def prepare_val2017(job: Job) -> list[str]:
    """The 5 000 images of COCO val2017, with the first five captions of each."""
    source = job.find_file("captions_val2017.json", "annotations/captions_val2017.json")
    content, captions = read_coco(source)
    folders = job.picture_folders("val2017", "images/val2017", "coco/images/val2017", ".")
    gold, pairs = [], []
    for image in content["images"]:
        name, own = PurePosixPath(image["file_name"]).name, captions[image["id"]]
        if len(own) < COCO_CAPTIONS:
            raise I0TError(f"{source}: {name} has {len(own)} captions, the layout needs {COCO_CAPTIONS}.")
        gold.append({"image_id": f"{job.target.name}/{name}", "captions": own[:COCO_CAPTIONS]})
        pairs.append((first_in(folders, name), job.target / name))
    return job.place_with_list(pairs, job.list_file, gold)


def prepare_nocaps(job: Job) -> list[str]:
    """NoCaps' validation set: the official file, its captions put in the order of its images.

    The pictures come from Open Images, and copies name them by `file_name`, by `open_images_id` or as their
    address ends; each of these is found, and linked under `file_name`, as the layout has it.
    """
    source = job.find_file(
        "nocaps_val_4500_captions.json", "annotations/nocaps_val_4500_captions.json", "NoCaps_GOLD.json"
    )
    content, captions = read_coco(source)
    folders = job.picture_folders("val", "images/val", "validation", "nocaps/images/val", "images", ".")
    pairs = []
    for image in content["images"]:
        name, count = PurePosixPath(image["file_name"]).name, len(captions[image["id"]])
        if count != NOCAPS_CAPTIONS:
            raise I0TError(f"{source}: {name} has {count} captions, NoCaps has {NOCAPS_CAPTIONS} of each.")
        pairs.append((first_in(folders, *_aliases(image, name)), job.target / name))
    place = {identity: number for number, identity in enumerate(captions)}
    annotations = sorted(content["annotations"], key=lambda row: place[row["image_id"]])
    moved = "already in the order of the images" if annotations == content["annotations"] else "put in order"
    lines = job.place_with_list(pairs, job.list_file, {**content, "annotations": annotations})
    return [f"{source.name}: {len(annotations)} captions, {moved}", *lines]


def _aliases(image: dict[str, Any], name: str) -> list[str]:
    address = PurePosixPath(str(image.get("coco_url", ""))).name
    identity = f"{image['open_images_id']}.jpg" if "open_images_id" in image else ""
    return list(dict.fromkeys(alias for alias in (name, identity, address) if alias))
