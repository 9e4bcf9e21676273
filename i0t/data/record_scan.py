"""What of ShareGPT4V is there: its records counted and compared with the folders, from the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from i0t.data.caption_index import open_index
from i0t.data.sharegpt4v import FILE, IMAGES, pictures_there


@dataclass(frozen=True)
class RecordScan:
    """What the index and the folders say.

    Attributes:
        records: how many there are.
        pictures: of them, the pictures that are there, in order.
        missing_by_folder: how many are not, by the top folder of their path.
        first_missing: the first of those.

    Example:
        >>> RecordScan(5, [Path("a.jpg"), Path("b.jpg")], {"coco": 1, "sam": 2}).n_missing
        3
    """

    records: int
    pictures: Sequence[Path]
    missing_by_folder: dict[str, int]
    first_missing: Path | None = None

    @property
    def n_missing(self) -> int:
        """Pictures that are not there."""
        return sum(self.missing_by_folder.values())


def scan_records(data_dir: Path) -> RecordScan:
    """Count the records and look for their pictures.

    Raises:
        I0TError: as `open_index`.

    Example:
        >>> import tempfile
        >>> from i0t.files import write_json
        >>> texts = [{}, {"value": "A dog."}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, FILE), [{"image": f"coco/{name}.jpg", "conversations": texts} for name in "ab"])
        ...     Path(folder, IMAGES, "coco").mkdir(parents=True)
        ...     Path(folder, IMAGES, "coco", "a.jpg").touch()
        ...     scan = scan_records(Path(folder))
        >>> scan.records, [path.name for path in scan.pictures], scan.missing_by_folder
        (2, ['a.jpg'], {'coco': 1})
    """
    index, folder = open_index(data_dir / FILE), data_dir / IMAGES
    there = pictures_there(index, np.arange(len(index)), folder)
    names = index.images.to_pylist()
    missing = [names[row] for row in np.flatnonzero(~there)]
    pictures = [folder / names[row] for row in np.flatnonzero(there)]
    by_folder = Counter(name.split("/")[0] for name in missing)
    return RecordScan(len(index), pictures, dict(by_folder), folder / missing[0] if missing else None)
