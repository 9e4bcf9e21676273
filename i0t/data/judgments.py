"""Flickr8k-Expert and Flickr8k-CF: captions that people rated, in the pacscore layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from i0t.data.captions import require_files, strings
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
    content = read_json(source, f"the ratings of {name}")
    images, references, image_of_rating, candidates, ratings, dropped = [], [], [], [], [], 0
    missing: list[Path] = []
    try:
        for entry in content.values():
            path, row = data_dir / FOLDER / "images" / Path(entry["image_path"]).name, len(images)
            if not path.is_file():
                missing.append(path)
                continue
            images.append(path)
            references.append([_clean(text) for text in strings(entry["ground_truth"])])
            for judgment in entry["human_judgement"]:
                if math.isnan(judgment["rating"]):
                    dropped += 1
                    continue
                image_of_rating.append(row)
                candidates.append(_clean(judgment["caption"]))
                ratings.append(float(judgment["rating"]))
    except (AttributeError, TypeError, KeyError) as error:
        raise I0TError(f"{source}: not in the pacscore form ({error!r}).") from None
    if missing and not (missing_ok and images):
        require_files(images + missing, source)
    if not ratings:
        raise I0TError(f"{source}: no rating left ({dropped} were NaN). Download the file again.")
    for path, texts in zip(images, references, strict=True):
        if not texts:
            raise I0TError(f"{source}: {path.name} has no references (ground_truth).")
    return Judgments(name, images, references, image_of_rating, candidates, ratings, dropped, source, missing)


def _clean(text: str) -> str:
    return " ".join(text.split())
