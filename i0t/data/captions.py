"""Retrieval sets: COCO, Flickr30k and NoCaps captions in the paper's GOLD layouts.

COCO_GOLD and Flickr_GOLD list `{"image_id", "captions": [5]}`, where only the base name of
`image_id` counts. NoCaps_GOLD is the official validation file, joined by image id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from i0t.data.fields import IDENTITY, REMEDY, field, strings
from i0t.errors import I0TError
from i0t.files import read_json

LAVIS = "PnP-VQA/lavis"


@dataclass(frozen=True)
class CaptionSet:
    """N images and their captions.

    Attributes:
        name: e.g. "flickr".
        images: N picture paths.
        captions: N lists of captions.
        source: the JSON file they came from.
        missing: pictures that it lists beyond these, and that are not there.

    Example:
        >>> pictures = [Path("a.jpg"), Path("b.jpg")]
        >>> CaptionSet("mine", pictures, [["a dog", "a pet"], ["a cat"]], Path("mine.json")).texts(1)
        (['a dog', 'a cat'], [0, 1])
    """

    name: str
    images: list[Path]
    captions: list[list[str]]
    source: Path
    missing: Sequence[Path] = ()

    def texts(self, captions_per_image: int) -> tuple[list[str], list[int]]:
        """The first captions of every image, and the image each belongs to.

        Args:
            captions_per_image: 1 (the paper's protocol, App. D) or 5.

        Raises:
            I0TError: an image has fewer captions.
        """
        texts, image_of_text = [], []
        for row, (path, captions) in enumerate(zip(self.images, self.captions, strict=True)):
            if len(captions) < captions_per_image:
                raise I0TError(
                    f"{self.source}: {path.name} has {len(captions)} captions, --captions-per-image "
                    f"{captions_per_image} needs more. Use --captions-per-image 1 or correct the file."
                )
            texts += captions[:captions_per_image]
            image_of_text += [row] * captions_per_image
        return texts, image_of_text


@dataclass(frozen=True)
class _Layout:
    captions: str
    images: str
    parse: Callable[[Any, Path], list[tuple[str, list[str]]]]


def _parse_gold(content: Any, source: Path) -> list[tuple[str, list[str]]]:
    if not isinstance(content, list):
        raise I0TError(f'{source}: expected a list of {{"image_id", "captions"}}. Is it another file?')
    rows = []
    for number, entry in enumerate(content):
        place = f"{source}: entry {number}"
        rows.append((Path(field(entry, "image_id", str, place)).name, strings(entry, "captions", place)))
    return rows


def _parse_nocaps(content: Any, source: Path) -> list[tuple[str, list[str]]]:
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(part, list) for part in lists):
        raise I0TError(
            f'{source}: expected NoCaps\' official validation file, with lists "images" and "annotations". '
            "Is it another file?"
        )
    names, captions = [], {}
    for number, image in enumerate(lists[0]):
        place = f"{source}: image {number}"
        identity = field(image, "id", IDENTITY, place)
        names.append((identity, Path(field(image, "file_name", str, place)).name))
        captions[identity] = []
    for number, annotation in enumerate(lists[1]):
        place = f"{source}: annotation {number}"
        identity = field(annotation, "image_id", IDENTITY, place)
        if identity not in captions:
            raise I0TError(f"{place}: is of image {identity}, which the file does not list. {REMEDY}")
        captions[identity].append(field(annotation, "caption", str, place))
    return [(name, captions[identity]) for identity, name in names]


_FLICKR_IMAGES = "flickr30k/images/flickr30k-images"
# The paper's three, and two that are not in its tables, under the names scripts/prepare_data.sh gives them.
LAYOUTS = {
    "coco": _Layout("COCO_Captions/NewCaptions/COCO_GOLD.json", "coco/images/val2014", _parse_gold),
    "flickr": _Layout("Flickr_Captions/NewCaptions/Flickr_GOLD.json", _FLICKR_IMAGES, _parse_gold),
    "nocaps": _Layout("Nocaps_Captions/NewCaptions/NoCaps_GOLD.json", "nocaps/images/val", _parse_nocaps),
    "coco_val2017": _Layout("COCO_Captions/NewCaptions/COCO_VAL2017.json", "coco/images/val2017", _parse_gold),
    "flickr_val": _Layout("Flickr_Captions/NewCaptions/Flickr_VAL.json", _FLICKR_IMAGES, _parse_gold),
}


def caption_file(name: str, data_dir_sub: Path) -> Path:
    """Where the captions of a retrieval set lie.

    Example:
        >>> caption_file("coco", Path("/data")).as_posix()
        '/data/Evaluation/COCO_Captions/NewCaptions/COCO_GOLD.json'
    """
    return data_dir_sub / "Evaluation" / LAYOUTS[name].captions


def picture_folder(name: str, data_dir_sub: Path) -> Path:
    """Where the pictures of a retrieval set lie.

    Example:
        >>> picture_folder("coco", Path("/data")).as_posix()
        '/data/PnP-VQA/lavis/coco/images/val2014'
    """
    return data_dir_sub / LAVIS / LAYOUTS[name].images


def load_captions(name: str, data_dir_sub: Path, missing_ok: bool = False) -> CaptionSet:
    """Read a retrieval set.

    Args:
        name: a key of `LAYOUTS`, e.g. "coco".
        data_dir_sub: `<data_dir_sub>` of the README.
        missing_ok: leave out pictures that are not there, and count them, as long as there is one.

    Raises:
        I0TError: the file is missing or of another form, an image has no captions or is not there.

    Example:
        >>> import tempfile
        >>> from i0t.files import write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(caption_file("coco", Path(folder)), [{"image_id": "x/a.jpg", "captions": [" a  dog "]}])
        ...     picture_folder("coco", Path(folder)).mkdir(parents=True)
        ...     (picture_folder("coco", Path(folder)) / "a.jpg").touch()
        ...     captions = load_captions("coco", Path(folder))
        >>> captions.images[0].name, captions.captions
        ('a.jpg', [['a dog']])
    """
    source = caption_file(name, data_dir_sub)
    folder = picture_folder(name, data_dir_sub)
    rows = LAYOUTS[name].parse(read_json(source, f"the captions of {name}"), source)
    if not rows:
        raise I0TError(f"{source}: lists no image.")
    for file_name, captions in rows:
        if not captions:
            raise I0TError(f"{source}: {file_name} has no captions. Remove the entry or complete the file.")
    images = [folder / file_name for file_name, _ in rows]
    there = [path.is_file() for path in images]
    if not (missing_ok and any(there)):
        require_files(images, source)
    cleaned = [[" ".join(caption.split()) for caption in captions] for _, captions in compress(rows, there)]
    missing = [path for path, found in zip(images, there, strict=True) if not found]
    return CaptionSet(name, list(compress(images, there)), cleaned, source, missing)


def require_files(paths: list[Path], source: Path) -> None:
    """Refuse a list that names pictures which are not there.

    Raises:
        I0TError: how many are missing of how many, and the first of them.

    Example:
        >>> require_files([Path(__file__)], Path("mine.json"))
        >>> require_files([Path(__file__), Path("none.jpg")], Path("mine.json"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: mine.json: 1 of the 2 pictures it lists are missing, first none.jpg. ...
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise I0TError(
            f"{source}: {len(missing)} of the {len(paths)} pictures it lists are missing, first {missing[0]}. "
            "Complete the download, or correct the path files."
        )
