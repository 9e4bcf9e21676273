"""What of a data set is there: pictures and texts found, against those expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from i0t.data.captions import LAYOUTS, CaptionSet, caption_file, load_captions
from i0t.data.class_sets import BIRDSNAP, CIFAR_ROOT, CLASS_SETS, class_set_present, load_class_set
from i0t.data.expected import OFFICIAL, Expected, expected_of
from i0t.data.judgments import FILES, Judgments, judgment_file, load_judgments
from i0t.data.record_scan import scan_records
from i0t.data.sharegpt4v import FILE
from i0t.errors import I0TError
from i0t.paths import Roots

State = Literal["complete", "known shortfall", "partial", "broken", "absent"]
USABLE: tuple[State, ...] = ("complete", "known shortfall")


@dataclass(frozen=True)
class Census:
    """Counts of one data set.

    Attributes:
        dataset: its name.
        state: "complete"; "known shortfall", which is as complete as copies of it are; "partial": the counts differ
            from those expected or pictures are missing; "broken": it cannot be read; "absent".
        images: pictures found.
        texts: captions, ratings or classes found.
        expected: the counts of a complete copy.
        sample: whether those are the built-in sample's own.
        source: the file or folder that was counted.
        problem: what is wrong, in one line; empty if nothing is.
        pictures: paths of the pictures found, to decode some; empty where a checksum has covered them.

    Example:
        >>> Census("flickr", "partial", 144, 720, OFFICIAL["flickr"], False, Path("Flickr_GOLD.json")).summary()
        '144 of 1000 images, 720 of 5000 captions'
    """

    dataset: str
    state: State
    images: int
    texts: int
    expected: Expected
    sample: bool
    source: Path
    problem: str = ""
    pictures: Sequence[Path] = field(default=(), repr=False, compare=False)

    def counts(self) -> dict[str, Any]:
        """The plain numbers, for records and JSON."""
        return {
            "state": self.state,
            "images": self.images,
            "images_expected": str(self.expected.images),
            self.expected.unit: self.texts,
            f"{self.expected.unit}_expected": str(self.expected.texts),
        }

    def summary(self) -> str:
        """E.g. "144 of 1000 images, 720 of 5000 captions"."""
        return (
            f"{self.images} of {self.expected.images} images, "
            f"{self.texts} of {self.expected.texts} {self.expected.unit}"
        )


class Found(NamedTuple):
    """What a counter saw.

    Example:
        >>> found = Found(1000, 5000, [])
        >>> found.images in OFFICIAL["flickr"].images, found.problem
        (True, '')
    """

    images: int
    texts: int
    pictures: Sequence[Path]
    problem: str = ""  # of missing pictures


def take_census(dataset: str, roots: Roots) -> Census:
    """Count a data set.

    Args:
        dataset: a key of `i0t.data.expected.OFFICIAL`.
        roots: the data roots.

    Example:
        >>> census = take_census("flickr", Roots(None, None))
        >>> census.state, census.problem
        ('absent', '<data_dir_sub> is not set')
    """
    expected, sample = expected_of(dataset, roots)
    source = source_of(dataset, roots)
    if source is None or not is_present(dataset, roots):
        root = "<data_dir_sub>" if expected.root == "sub" else "<data_dir>"
        problem = f"{source}: not there" if source else f"{root} is not set"
        return Census(dataset, "absent", 0, 0, expected, sample, source or Path(), problem)
    try:
        found = _COUNTERS[dataset](dataset, roots, expected)
    except I0TError as error:
        return Census(dataset, "broken", 0, 0, expected, sample, source, str(error))
    state, problem = _judge(found, expected)
    return Census(dataset, state, found.images, found.texts, expected, sample, source, problem, found.pictures)


def is_present(dataset: str, roots: Roots) -> bool:
    """Whether the list or folder that a data set is read from is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     roots = Roots(Path(folder), None)
        ...     is_present("birdsnap", roots), is_present("flickr", roots)
        ...     Path(folder, BIRDSNAP).mkdir(parents=True)
        ...     is_present("birdsnap", roots)
        (False, False)
        True
    """
    source = source_of(dataset, roots)
    if dataset in CLASS_SETS:
        return class_set_present(dataset, roots)
    return source is not None and source.is_file()


def source_of(dataset: str, roots: Roots) -> Path | None:
    """The file or folder that a data set is read from; None if its root is not set.

    Example:
        >>> source_of("flickr", Roots(None, Path("/data"))).name, source_of("flickr", Roots(None, None))
        ('Flickr_GOLD.json', None)
    """
    root = roots.sub if OFFICIAL[dataset].root == "sub" else roots.main
    if dataset == "cifar100":
        return CIFAR_ROOT.expanduser() / "cifar-100-python"
    if root is None:
        return None
    if dataset in LAYOUTS:
        return caption_file(dataset, root)
    return judgment_file(dataset, root) if dataset in FILES else root / (BIRDSNAP if dataset == "birdsnap" else FILE)


def _judge(found: Found, expected: Expected) -> tuple[State, str]:
    if found.problem:
        return "partial", found.problem
    if found.texts in expected.texts and found.images in expected.images:
        return "complete", ""
    known = expected.known_images
    if found.texts in expected.texts and known is not None and found.images in known:
        return "known shortfall", expected.why
    return "partial", f"{found.images} of {expected.images} images, {found.texts} of {expected.texts} {expected.unit}"


def _missing(missing: int, first: Path, found: int, source: Path) -> str:
    return f"{source}: {missing} of the {found + missing} pictures it lists are missing, first {first}"


def _problem(data: CaptionSet | Judgments) -> str:
    return _missing(len(data.missing), data.missing[0], len(data.images), data.source) if data.missing else ""


def _count_captions(dataset: str, roots: Roots, expected: Expected) -> Found:
    data, most = load_captions(dataset, roots.data_dir_sub, missing_ok=True), expected.per_image
    texts = sum(min(len(captions), most or len(captions)) for captions in data.captions)
    return Found(len(data.images), texts, data.images, _problem(data))


def _count_judgments(dataset: str, roots: Roots, expected: Expected) -> Found:
    data = load_judgments(dataset, roots.data_dir, missing_ok=True)
    return Found(len(data.images), len(data.ratings) + data.n_dropped, data.images, _problem(data))


def _count_classes(dataset: str, roots: Roots, expected: Expected) -> Found:
    data = load_class_set(dataset, roots)
    pictures = [Path(str(image)) for image in data.images] if dataset == "birdsnap" else []
    return Found(len(data.images), len(data.class_names), pictures)


def _count_records(dataset: str, roots: Roots, expected: Expected) -> Found:
    scan = scan_records(roots.data_dir)
    if not scan.n_missing or scan.first_missing is None:
        return Found(len(scan.pictures), scan.records, scan.pictures)
    problem = _missing(scan.n_missing, scan.first_missing, len(scan.pictures), roots.data_dir / FILE)
    folders = ", ".join(f"{missing} of {folder}" for folder, missing in scan.missing_by_folder.items())
    return Found(len(scan.pictures), scan.records, scan.pictures, f"{problem} ({folders})")


_COUNTERS: dict[str, Callable[[str, Roots, Expected], Found]] = {
    **dict.fromkeys(LAYOUTS, _count_captions),
    **dict.fromkeys(FILES, _count_judgments),
    **dict.fromkeys(CLASS_SETS, _count_classes),
    "sharegpt4v": _count_records,
}
