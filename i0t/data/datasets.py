"""The data sets: their names, whether they are present and complete, and how to read them.

A new data set is one entry of `i0t/data/entries.py` and one reader, a function of (entry, roots) that returns a
`Dataset`. `--dataset`, `scripts/check_data.sh`, `scripts/prepare_data.sh` and the check for completeness then know it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from i0t.data.entries import ENTRIES, Count, DatasetEntry, Kind
from i0t.digests import list_sha256
from i0t.dotted import import_dotted
from i0t.errors import I0TError
from i0t.paths import Roots
from i0t.reading import read_json

if TYPE_CHECKING:
    from i0t.data.items import ImageSource

DATASETS = {entry.name: entry for entry in ENTRIES}
State = Literal["complete", "known shortfall", "partial", "broken", "absent"]
USABLE: tuple[State, ...] = ("complete", "known shortfall")
SAMPLE_MARKER = "sample.json"  # lies beside the data roots of a built-in sample


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A data set that was read: N images, and the texts of its kind.

    Attributes:
        split: part of the owners' data, as in records.
        source: the file or folder that was read.
        images: N paths or PIL images.
        image_ids: N names.
        missing: listed images that do not exist.
        completeness: for records: state, counts, and the reason if it is not complete.
    """

    name: str
    split: str
    source: Path
    images: Sequence[ImageSource]
    image_ids: Sequence[str]
    missing: Sequence[Path | str] = ()
    completeness: dict[str, Any] = field(default_factory=dict)

    @abstractmethod
    def count_texts(self, per_image: int | None = None) -> int:
        """Number of captions, ratings or classes; of captions at most `per_image` per image."""

    def lacks(self) -> str:
        """How many of the listed images are missing, in words without a full stop; empty if none is."""
        if not self.missing:
            return ""
        listed, first = len(self.images) + len(self.missing), self.missing[0]
        return f"{self.source}: {len(self.missing)} of the {listed} images it lists are missing, first {first}"

    def content_sha256(self) -> str:
        """SHA-256 of all that metrics may read of it, such as ids, labels, references and ratings; not the images."""
        left_out = {"name", "split", "source", "images", "missing", "completeness"}
        content = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}
        return list_sha256([json.dumps(content, sort_keys=True, default=_as_list)])

    def metadata(self) -> dict[str, Any]:
        """Return the entries for `Embeddings.metadata`."""
        return {
            "dataset": self.name,
            "split": "test",
            "part": self.split,
            "source": str(self.source),
            "completeness": self.completeness,
        }


@dataclass(frozen=True)
class Census:
    """How complete a data set is.

    Attributes:
        state: "complete"; "known shortfall": as complete as public copies are; "partial": other counts than expected,
            or missing images; "broken": it cannot be read; "absent".
        expected: its entry, with the counts that apply to these roots.
        built_in_sample: whether these counts are those of the built-in sample.
        source: the file or folder that was counted.
        images: images found.
        texts: captions, ratings or classes found.
        problem: what is wrong, in one line; empty if nothing is.
        dataset: the data set, unless it is broken or absent.
    """

    state: State
    expected: DatasetEntry
    built_in_sample: bool
    source: Path
    images: int = 0
    texts: int = 0
    problem: str = ""
    dataset: Dataset | None = field(default=None, repr=False, compare=False)

    def counts(self) -> dict[str, Any]:
        """Return state and counts, for records and JSON."""
        unit = unit_of(self.expected)
        return {
            "state": self.state,
            "images": self.images,
            "images_expected": shown(self.expected.images),
            unit: self.texts,
            f"{unit}_expected": shown(self.expected.texts),
        }

    def summary(self) -> str:
        """E.g. "144 of 1000 images, 720 of 5000 captions"."""
        return _found_of(self.expected, self.images, self.texts)


def datasets_of(kind: Kind, roots: Roots | None = None) -> tuple[str, ...]:
    """Names of the data sets of a kind; with `roots`, only those that are present.

    CIFAR-100 lies outside the data roots, so it does not count as present with the built-in sample.
    """
    names = [entry.name for entry in DATASETS.values() if entry.kind == kind]
    if roots is not None:
        outside = {name for name in names if DATASETS[name].root == "cache"} if roots.is_sample else set()
        names = [name for name in names if name not in outside and is_present(name, roots)]
    return tuple(names)


def is_present(name: str, roots: Roots) -> bool:
    """Whether the list or folder of a data set exists."""
    entry = DATASETS[name]
    folder = roots.folder(entry.root)
    return folder is not None and (folder / (entry.presence or entry.file)).exists()


def load_dataset(name: str, roots: Roots, allow_partial: bool = False) -> Dataset:
    """Read a data set, with its completeness.

    Args:
        name: a key of `DATASETS`.
        roots: the data roots.
        allow_partial: accept an incomplete data set.

    Raises:
        I0TError: it is absent, cannot be read, or is incomplete and `allow_partial` is not set.
    """
    dataset, census = _read(DATASETS[name], roots)
    if census.state not in USABLE and not allow_partial:
        raise I0TError(
            f"{census.source}: {name} is not complete: {census.problem.removeprefix(f'{census.source}: ')}. "
            "Complete it (docs/data.md), or evaluate the part that is there: --allow-partial."
        )
    return dataset


def census(name: str, roots: Roots) -> Census:
    """Count a data set; no error if it is absent or broken."""
    entry, sample = _expected_in(DATASETS[name], roots)
    folder = roots.folder(entry.root)
    source = Path() if folder is None else folder / entry.file
    if not is_present(name, roots):
        unset = "<data_dir_sub> is not set" if entry.root == "sub" else "<data_dir> is not set"
        return Census("absent", entry, sample, source, problem=f"{source}: not there" if folder else unset)
    try:
        return _read(DATASETS[name], roots)[1]
    except I0TError as error:
        return Census("broken", entry, sample, source, problem=str(error))


def unit_of(entry: DatasetEntry) -> str:
    """Name of its texts: captions, ratings or classes."""
    return entry.kind.rpartition(" ")[2]


def within(number: int, count: Count) -> bool:
    """Whether a number is the expected one, or in its range."""
    return count.least <= number <= (count.most or count.least)


def shown(count: Count) -> str:
    """E.g. "1000", or "1855-1857"."""
    return str(count.least) if count.most is None else f"{count.least}-{count.most}"


def in_sample(roots: Roots) -> bool:
    """Check by the sample's marker whether a data root belongs to a built-in sample."""
    return any(folder is not None and sample_size(folder) is not None for folder in (roots.main, roots.sub))


def sample_size(root: Path) -> dict[str, int] | None:
    """Return the sizes of the built-in sample that a data root belongs to; None if it is no sample.

    Raises:
        I0TError: its marker is damaged.
    """
    marker = root.parent / SAMPLE_MARKER
    content = read_json(marker, "the built-in sample's marker") if marker.is_file() else None
    if not isinstance(content, dict) or "judgments" not in content:
        return None  # no marker, or another file of that name
    return content.get("size")


def _read(entry: DatasetEntry, roots: Roots) -> tuple[Dataset, Census]:
    expected, sample = _expected_in(entry, roots)
    dataset = _reader(entry)(entry, roots)
    if not isinstance(dataset, Dataset):
        raise I0TError(f"{entry.name}: its reader {entry.reader} returned {dataset!r:.40}, not a Dataset.")
    images, texts = len(dataset.images), dataset.count_texts(entry.texts_per_image)
    state, problem = _judge(expected, images, texts, dataset.lacks())
    found = Census(state, expected, sample, dataset.source, images, texts, problem)
    why = {"why": problem} if problem else {}
    dataset = replace(dataset, completeness={**found.counts(), "built_in_sample": sample, **why})
    return dataset, replace(found, dataset=dataset)


def _judge(expected: DatasetEntry, images: int, texts: int, lacks: str) -> tuple[State, str]:
    if lacks:
        return "partial", lacks
    if within(texts, expected.texts) and within(images, expected.images):
        return "complete", ""
    if within(texts, expected.texts) and expected.known_images and within(images, expected.known_images):
        return "known shortfall", expected.why
    return "partial", _found_of(expected, images, texts)


def _found_of(expected: DatasetEntry, images: int, texts: int) -> str:
    counted = f"{texts} of {shown(expected.texts)} {unit_of(expected)}"
    return f"{images} of {shown(expected.images)} images, {counted}"


def _expected_in(entry: DatasetEntry, roots: Roots) -> tuple[DatasetEntry, bool]:
    """Return the entry with the counts that apply to these roots, and whether the roots are a built-in sample."""
    folder = roots.folder(entry.root)
    size = sample_size(folder) if folder is not None and entry.sample else None
    if size is None or entry.sample is None:
        return entry, False
    key, images, texts = entry.sample
    if key not in size:
        raise I0TError(
            f"{folder and folder.parent / SAMPLE_MARKER}: not the marker of this version's sample (no {key!r}). Make "
            "the sample again."
        )
    texts = texts if entry.kind == "classes" else texts * size[key]
    counted = replace(entry, images=Count(images * size[key]), texts=Count(texts))
    return replace(counted, known_images=None, why="", note=""), True


def _as_list(values: Any) -> Any:
    """Convert an array, a NumPy number or a sequence for JSON."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _reader(entry: DatasetEntry) -> Callable[[DatasetEntry, Roots], Dataset]:
    return import_dotted(entry.reader)
