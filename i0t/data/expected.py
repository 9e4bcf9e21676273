"""How many pictures and texts a data set has: as its owners publish it, or as the built-in sample was made.

The one table of counts: preparing, checking and evaluating all ask it. A count that the owners give only
roughly is a range, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from i0t.data.sample.judgments import ANNOTATORS, CROWD_PLAN, EXPERT_PLAN
from i0t.data.sample.scenes import KINDS
from i0t.data.sample.writer import MARKER, SampleSize
from i0t.errors import I0TError
from i0t.files import read_json
from i0t.paths import Roots


@dataclass(frozen=True)
class Count:
    """A number, or a range of numbers that pass.

    Example:
        >>> 1000 in Count(1000), 999 in Count(1000), str(Count(1855, 1857))
        (True, False, '1855-1857')
    """

    least: int
    most: int | None = None

    def __contains__(self, number: int) -> bool:
        return self.least <= number <= (self.least if self.most is None else self.most)

    def __str__(self) -> str:
        return str(self.least) if self.most is None else f"{self.least}-{self.most}"


@dataclass(frozen=True)
class Expected:
    """What a complete copy of a data set shows.

    Attributes:
        images: pictures.
        texts: captions, ratings or classes.
        unit: which of these.
        per_image: captions counted of each picture at most: some of COCO's have six or seven, five are used.
        known_images: fewer pictures that are known and accepted, if any ...
        why: ... and why.
        note: what is not known of the counts.
        root: which data root it lies in: "main" (`<data_dir>`), "sub" (`<data_dir_sub>`), or "" for neither.
        optional: not one of the paper's eight, told only where it is.

    Example:
        >>> birds = OFFICIAL["birdsnap"]
        >>> 1856 in birds.images, 1856 in birds.known_images, str(birds.texts), birds.unit
        (False, True, '500', 'classes')
    """

    images: Count
    texts: Count
    unit: str
    per_image: int | None = None
    known_images: Count | None = None
    why: str = ""
    note: str = ""
    root: str = "main"
    optional: bool = False


_SHAREGPT4V = Count(1_246_000, 1_246_999)
OFFICIAL = {
    "coco": Expected(Count(5000), Count(25_000), "captions", per_image=5, root="sub"),
    "coco_val2017": Expected(Count(5000), Count(25_000), "captions", per_image=5, root="sub", optional=True),
    "flickr": Expected(Count(1000), Count(5000), "captions", per_image=5, root="sub"),
    "flickr_val": Expected(Count(1014), Count(5070), "captions", per_image=5, root="sub", optional=True),
    "nocaps": Expected(Count(4500), Count(45_000), "captions", per_image=10, root="sub"),
    "cifar100": Expected(Count(10_000), Count(100), "classes", root=""),
    "birdsnap": Expected(
        Count(2443),
        Count(500),
        "classes",
        known_images=Count(1855, 1857),
        why="of the 2443 test pictures, public copies have 1855 to 1857: the others are gone from Flickr",
    ),
    # 5822 rows of ExpertAnnotations.txt, less 158 whose candidate is among the references, times three.
    "flickr8k_expert": Expected(Count(1000), Count(16_992), "ratings"),
    "flickr8k_cf": Expected(
        Count(1000),
        Count(47_500, 48_499),
        "ratings",
        note="the owners say 48 K (about 47 830); the exact number could not be looked up",
    ),
    "sharegpt4v": Expected(
        _SHAREGPT4V, _SHAREGPT4V, "captions", note="the owners say 1246 K; the exact number could not be looked up"
    ),
}


def expected_of(dataset: str, roots: Roots) -> tuple[Expected, bool]:
    """What is expected of a data set in these roots, and whether that is the built-in sample's own count.

    Args:
        dataset: a key of `OFFICIAL`.
        roots: the data roots; one with the sample's marker beside it is complete by that marker.

    Raises:
        I0TError: the marker is damaged.

    Example:
        >>> expected, is_sample = expected_of("flickr", Roots(None, None))
        >>> str(expected.images), str(expected.texts), is_sample
        ('1000', '5000', False)
    """
    official = OFFICIAL[dataset]
    root = {"main": roots.main, "sub": roots.sub, "": None}[official.root]
    size = sample_size(root) if root is not None else None
    made = {} if size is None else _of_sample(size)
    return (made[dataset], True) if dataset in made else (official, False)


def sample_size(root: Path) -> SampleSize | None:
    """Size of the built-in sample that a data root belongs to; None if it belongs to none.

    Raises:
        I0TError: its marker is damaged.

    Example:
        >>> import tempfile
        >>> from i0t.files import write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, MARKER), {"size": {"flickr": 7}, "judgments": {}})
        ...     sample_size(Path(folder, "data_dir")).flickr
        7
    """
    marker = root.parent / MARKER
    content = read_json(marker, "the built-in sample's marker") if marker.is_file() else None
    if not isinstance(content, dict) or "judgments" not in content or "size" not in content:
        return None  # no marker, or another file of that name
    try:
        return SampleSize(**content["size"])
    except TypeError as error:
        raise I0TError(f"{marker}: not the marker of this version's sample ({error}). Make the sample again.") from None


def _of_sample(size: SampleSize) -> dict[str, Expected]:
    def captioned(images: int, each: int) -> Expected:
        return Expected(Count(images), Count(images * each), "captions", per_image=each)

    judged = Count(size.judged)
    return {
        "coco": captioned(size.coco, 5),
        "flickr": captioned(size.flickr, 5),
        "nocaps": captioned(size.nocaps, 10),
        "birdsnap": Expected(Count(size.birdsnap_per_class * len(KINDS)), Count(len(KINDS)), "classes"),
        "flickr8k_expert": Expected(judged, Count(size.judged * len(EXPERT_PLAN) * ANNOTATORS), "ratings"),
        "flickr8k_cf": Expected(judged, Count(size.judged * len(CROWD_PLAN)), "ratings"),
        "sharegpt4v": Expected(Count(size.train), Count(size.train), "captions"),
    }
