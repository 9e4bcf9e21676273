"""Flickr8k-Expert and Flickr8k-CF: captions that people rated, in the pacscore layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from i0t.data.captions import require_files
from i0t.data.fields import NUMBER, REMEDY, field, strings
from i0t.errors import I0TError
from i0t.files import read_json

FOLDER = "pacscore_datasets/flickr8k"
FILES = {"flickr8k_expert": "flickr8k.json", "flickr8k_cf": "crowdflower_flickr8k.json"}


@dataclass(frozen=True)
class Judgments:
    """R ratings of (picture, candidate caption) pairs.

    Attributes:
        name: "flickr8k_expert" or "flickr8k_cf".
        images: N distinct picture paths.
        references: N lists of reference captions.
        image_of_rating: R rows of `images`.
        candidates: R candidate captions.
        ratings: R numbers, 1..4 (Expert, one per annotator, not averaged) or 0..1 (CF).
        n_dropped: how many ratings were NaN and left out.
        source: the JSON file.
        missing: pictures that it lists beyond these, and that are not there.

    Example:
        >>> pictures, rows, candidates = [Path("a.jpg")], [0, 0], ["a dog", "a cat"]
        >>> judged = Judgments("flickr8k_cf", pictures, [["a pet"]], rows, candidates, [1.0, 0.0], 0, Path("cf.json"))
        >>> list(zip(judged.candidates, judged.ratings))
        [('a dog', 1.0), ('a cat', 0.0)]
    """

    name: str
    images: list[Path]
    references: list[list[str]]
    image_of_rating: list[int]
    candidates: list[str]
    ratings: list[float]
    n_dropped: int
    source: Path
    missing: Sequence[Path] = ()


def judgment_file(name: str, data_dir: Path) -> Path:
    """Where the ratings of a set lie.

    Example:
        >>> judgment_file("flickr8k_expert", Path("/data")).as_posix()
        '/data/pacscore_datasets/flickr8k/flickr8k.json'
    """
    return data_dir / FOLDER / FILES[name]


def load_judgments(name: str, data_dir: Path, missing_ok: bool = False) -> Judgments:
    """Read a set of human judgments; runs of white space collapse to one blank.

    Args:
        name: "flickr8k_expert" or "flickr8k_cf".
        data_dir: `<data_dir>` of the README.
        missing_ok: leave out pictures that are not there with their ratings, and count them, as long as there
            is one.

    Raises:
        I0TError: missing or malformed file, no rating left, an image without references or not there.

    Example:
        >>> import tempfile
        >>> from i0t.files import write_json
        >>> ratings = [{"caption": "a  cat", "rating": 0.5}, {"caption": "a bus", "rating": math.nan}]
        >>> entry = {"image_path": "x/a.jpg", "ground_truth": ["a dog"], "human_judgement": ratings}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(judgment_file("flickr8k_cf", Path(folder)), {"1": entry})
        ...     Path(folder, FOLDER, "images").mkdir()
        ...     Path(folder, FOLDER, "images", "a.jpg").touch()
        ...     judged = load_judgments("flickr8k_cf", Path(folder))
        >>> judged.candidates, judged.ratings, judged.n_dropped
        (['a cat'], [0.5], 1)
    """
    source = judgment_file(name, data_dir)
    entries = parse_judgments(read_json(source, f"the ratings of {name}"), source)
    images, references, image_of_rating, candidates, ratings, dropped = [], [], [], [], [], 0
    missing: list[Path] = []
    for entry in entries:
        path, row = data_dir / FOLDER / "images" / entry.picture, len(images)
        if not path.is_file():
            missing.append(path)
            continue
        images.append(path)
        references.append([_clean(text) for text in entry.references])
        for caption, rating in entry.ratings:
            if math.isnan(rating):
                dropped += 1
                continue
            image_of_rating.append(row)
            candidates.append(_clean(caption))
            ratings.append(rating)
    if missing and not (missing_ok and images):
        require_files(images + missing, source)
    if not ratings:
        raise I0TError(f"{source}: no rating left ({dropped} were NaN). Download the file again.")
    return Judgments(name, images, references, image_of_rating, candidates, ratings, dropped, source, missing)


class Entry(NamedTuple):
    """One picture of a file in the pacscore form.

    Attributes:
        key: of the entry.
        picture: base name.
        references: captions of the picture, as they stand there.
        ratings: (candidate caption, rating) pairs; a rating may be NaN.

    Example:
        >>> Entry("1", "a.jpg", ["a dog"], [("a cat", 0.5)]).picture
        'a.jpg'
    """

    key: str
    picture: str
    references: list[str]
    ratings: list[tuple[str, float]]


def parse_judgments(content: Any, source: Path) -> list[Entry]:
    """The entries of a file in the pacscore form, all of them checked.

    Args:
        content: what the file holds.
        source: the file, for the error.

    Raises:
        I0TError: it is of another form, or a picture has no references; names the entry.

    Example:
        >>> entry = {"image_path": "x/a.jpg", "ground_truth": ["a dog"], "human_judgement": [{"caption": "a cat"}]}
        >>> parse_judgments({"1": entry}, Path("cf.json"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: cf.json: 1: not in the pacscore form: judgement 0: has no "rating". Correct it, or ...
    """
    if not isinstance(content, dict):
        raise I0TError(f"{source}: not in the pacscore form (an object of pictures). Is it another file?")
    entries = []
    for key, entry in content.items():
        place = f"{source}: {key}: not in the pacscore form"
        picture = Path(field(entry, "image_path", str, place)).name
        references = strings(entry, "ground_truth", place)
        if not references:
            raise I0TError(f'{source}: {key}: {picture} has no references ("ground_truth"). {REMEDY}')
        ratings = []
        for number, judged in enumerate(field(entry, "human_judgement", list, place)):
            where = f"{place}: judgement {number}"
            ratings.append((field(judged, "caption", str, where), float(field(judged, "rating", NUMBER, where))))
        entries.append(Entry(key, picture, references, ratings))
    return entries


def _clean(text: str) -> str:
    return " ".join(text.split())
