"""Flickr8k-Expert and -CF: from the JSON files of pacscore and CLIPScore, or from Flickr8k's own text files.

The text files are `Flickr8k.token.txt` (`image#number<TAB>caption`), `ExpertAnnotations.txt` (image, caption id,
three ratings 1..4) and `CrowdFlowerAnnotations.txt` (image, caption id, share of yes, number of yes, of no). They
are changed as in the JSON files: Expert rows whose candidate is a reference are left out, and CF candidates are
removed from the references.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from i0t.data.datasets import DATASETS
from i0t.data.prepare.job import Job, first_in
from i0t.data.ratings import check_ratings
from i0t.errors import I0TError
from i0t.reading import read_json, read_text

IMAGE_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Flickr8k_Dataset")
LISTS = {"flickr8k_expert": "ExpertAnnotations.txt", "flickr8k_cf": "CrowdFlowerAnnotations.txt"}


def prepare_flickr8k(job: Job) -> list[str]:
    """Write the ratings and link their images."""
    target = job.list_file
    source = job.look_for(target.name, f"flickr8k/{target.name}")
    if source is None:
        source = job.find_file(*_below(LISTS[job.dataset]), target.name)
        content = _from_text(job, source)
    else:
        content = read_json(source, f"the ratings of {job.dataset}")
    names = _checked(content, source, DATASETS[job.dataset].scale)
    folders = job.image_folders(*IMAGE_FOLDERS, *(f"flickr8k/{name}" for name in IMAGE_FOLDERS))
    pairs = [(first_in(folders, name), job.target / name) for name in names]
    ratings = sum(len(entry["human_judgement"]) for entry in content.values())
    lines = job.place_with_list(pairs, target, content)
    return [f"{source.name}: {ratings} ratings of {len(content)} images", *lines]


def _below(name: str) -> tuple[str, ...]:
    return name, f"Flickr8k_text/{name}", f"flickr8k/{name}"


def _checked(content: Any, source: Path, scale: tuple[float, float]) -> list[str]:
    """Check a file in the pacscore form and return the base names of its images.

    Raises:
        I0TError: it has another form, or a rating is outside the scale; names the entry.
    """
    rated = check_ratings(content, source, scale)
    if all(math.isnan(row.rating) for image in rated.values() for row in image.human_judgement):
        raise I0TError(f"{source}: holds no rating that is a number. Download it again.")
    return [image.file_name for image in rated.values()]


def _from_text(job: Job, source: Path) -> dict[str, Any]:
    tokens = job.find_file(*_below("Flickr8k.token.txt"))
    captions: dict[str, str] = {}
    for number, (key, text) in _rows(tokens, 2):
        if captions.setdefault(key, text) != text:
            raise I0TError(f"{tokens}:{number}: {key} has two captions. Drop one, or download it again.")
    references: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for key, text in captions.items():
        name, stem = key.partition("#")[0], _stem(key)
        if names.setdefault(stem, name) != name:
            raise I0TError(f"{tokens}: {names[stem]} and {name} would be one image. Download it again.")
        references.setdefault(stem, []).append(text)
    content: dict[str, Any] = {}
    for number, row in _rows(source, 5):
        image, caption_id, *numbers = row
        if caption_id not in captions or _stem(image) not in references:
            raise I0TError(f"{source}:{number}: {image}, {caption_id}: not in {tokens}.")
        place = f"{source}:{number}"
        entry = content.setdefault(
            image,
            {"image_path": f"Flicker8k_Dataset/{image}", "ground_truth": list(references[_stem(image)])},
        )
        rated = _RULES[job.dataset](captions[caption_id], entry["ground_truth"], _floats(numbers, place))
        entry.setdefault("human_judgement", []).extend(rated)
    return {key: entry for key, entry in content.items() if entry["human_judgement"]}


def _expert(caption: str, references: list[str], numbers: list[float]) -> list[dict[str, Any]]:
    """Three ratings, one per annotator; none if the candidate is a reference."""
    return [] if caption in references else [{"caption": caption, "rating": rating} for rating in numbers]


def _crowd(caption: str, references: list[str], numbers: list[float]) -> list[dict[str, Any]]:
    """The share of yes; the candidate is removed from the references."""
    while caption in references:
        references.remove(caption)
    return [{"caption": caption, "rating": numbers[0]}]


_RULES = {"flickr8k_expert": _expert, "flickr8k_cf": _crowd}


def _rows(path: Path, fields: int) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of a tab-separated file."""
    lines = read_text(path, "a list of Flickr8k").splitlines()
    for number, line in enumerate(lines, start=1):
        row = line.strip().split("\t")
        if len(row) != fields and line.strip():
            raise I0TError(f"{path}:{number}: {len(row)} fields, expected {fields}. Download it again.")
        if line.strip():
            yield number, row


def _stem(name: str) -> str:
    """Return e.g. `1000268201_693b08cb0e` for `1000268201_693b08cb0e.jpg#0`; one name in the list ends in `.jpg.1`."""
    return name.partition("#")[0].partition(".")[0]


def _floats(numbers: list[str], place: str) -> list[float]:
    try:
        return [float(number) for number in numbers]
    except ValueError as error:
        raise I0TError(f"{place}: {error}.") from None
