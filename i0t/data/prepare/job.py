"""`Job`: one preparation with its options, and functions to find, link and write files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from filecmp import cmp
from os.path import isfile  # Path's fails for names that are too long
from pathlib import Path
from typing import Any

from tqdm import tqdm

from i0t.data.datasets import DATASETS
from i0t.digests import to_bytes
from i0t.errors import I0TError
from i0t.files import atomic_path, ensure_folder
from i0t.paths import Roots

Pair = tuple[Path, Path]  # an image of the owners, and its place in the layout


@dataclass(frozen=True)
class Job:
    """Options of one preparation.

    Attributes:
        dataset: name in `DATASETS`, e.g. "coco_val2017".
        source: `--from`; None with `--download`.
        roots: where to write.
        pictures: `--images`, the folder of the images if it is not below `source`.
        copy: copy instead of link.
        overwrite: replace a list that exists and differs.
        allow_partial: go on without missing images.
        download: download what a library can download.
    """

    dataset: str
    source: Path | None
    roots: Roots
    pictures: Path | None = None
    copy: bool = False
    overwrite: bool = False
    allow_partial: bool = False
    download: bool = False

    @property
    def list_file(self) -> Path:
        """The file or folder that the reader will read."""
        entry = DATASETS[self.dataset]
        return self.roots.below(entry.root, entry.file)

    @property
    def target(self) -> Path:
        """The folder for its images."""
        entry = DATASETS[self.dataset]
        return self.roots.below(entry.root, entry.pictures or entry.file)

    @property
    def folder(self) -> Path:
        """`--from`.

        Raises:
            I0TError: it is not set.
        """
        if self.source is None:
            raise I0TError(f"{self.dataset}: say where the owners' files are: --from FOLDER.")
        return self.source

    def find_file(self, *names: str) -> Path:
        """Return the first of these files that exists in `--from`.

        Raises:
            I0TError: none exists.
        """
        path = self.look_for(*names)
        if path is None:
            raise I0TError(f"{self.folder}: holds neither {' nor '.join(names)}. docs/data.md says where to get it.")
        return path

    def look_for(self, *names: str) -> Path | None:
        """`find_file`, or None if none exists."""
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)

    def image_folders(self, *names: str) -> list[Path]:
        """Return `--images`, or those of these folders that exist in `--from`.

        Raises:
            I0TError: none exists.
        """
        folders = [self.pictures] if self.pictures else [self.folder / name for name in names]
        there = [folder for folder in folders if folder.is_dir()]
        if not there:
            raise I0TError(
                f"{self.pictures or self.folder}: no folder of images"
                + (f" ({', '.join(names)})." if not self.pictures else ".")
                + " Say where they are: --images FOLDER."
            )
        return there

    def place(self, pairs: Sequence[Pair]) -> str:
        """Link or copy images to their places, keeping files that exist; return a line that says what was done.

        Raises:
            I0TError: images are missing and `allow_partial` is not set, or another file is at the place of one. Then
                nothing has been placed.
        """
        refuse_shared(pairs)
        missing = [pair for pair in pairs if not isfile(pair[0]) and not isfile(pair[1])]
        if missing and (not self.allow_partial or len(missing) == len(pairs)):
            raise I0TError(
                f"{missing[0][0]}: no such image; {len(missing)} of {len(pairs)} that the list names are missing. "
                "Complete the download, or go on without them: --allow-partial."
            )
        left_out = set(missing)
        there = [pair for pair in pairs if pair not in left_out]
        for source, target in there:
            refuse_another(source, target)
        bar = tqdm(there, desc=self.dataset, unit=" images", disable=None)
        new = sum(place_file(source, target, self.copy) for source, target in bar)
        kept = len(pairs) - len(missing) - new
        return f"images {'copied' if self.copy else 'linked'}: {new}, already there: {kept}, missing: {len(missing)}"

    def place_with_list(self, pairs: Sequence[Pair], path: Path, content: Any) -> list[str]:
        """Place images, and write the JSON file that lists them unless it exists; return two lines.

        The file is written last, so that a data set only looks complete when it is.

        Raises:
            I0TError: as `place`, or another list exists and `overwrite` is not set. Then nothing has been placed.
        """
        text = _laid_out(content)
        same = path.is_file() and _same(path.read_bytes(), text)
        if path.exists() and not (same or self.overwrite):
            raise I0TError(f"{path}: exists and differs. Move it away, or replace it: --overwrite.")
        placed = self.place(pairs)
        if same:
            return [placed, f"{path}: unchanged"]
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return [placed, f"{path}: written"]


def _laid_out(content: Any) -> str:
    """Format as JSON, one line per entry of the outermost list."""
    if not isinstance(content, list):
        return json.dumps(content) + "\n"
    return "[\n" + ",\n".join(map(_line, content)) + "\n]\n"


def _line(row: Any) -> str:
    line = json.dumps(row, ensure_ascii=False)
    return line if to_bytes(line).decode(errors="ignore") == line else json.dumps(row)  # half a surrogate pair


def _same(old: bytes, text: str) -> bool:
    """Whether a file and a text hold the same JSON, in any format."""
    if old == to_bytes(text):
        return True
    try:
        return json.loads(old) == json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or no text at all
        return False


def refuse_shared(pairs: Sequence[Pair]) -> None:
    """Refuse two images at one place, and one image at two places.

    Raises:
        I0TError: names both.
    """
    at: dict[Path, Path] = {}
    of: dict[Path, Path] = {}
    for source, target in pairs:
        if at.setdefault(target, source) != source:
            raise I0TError(f"{at[target]} and {source} would both be {target}. Give each image a name of its own.")
        if of.setdefault(source, target) != target:
            raise I0TError(f"{source} would be both {of[source]} and {target}. Give each image a name of its own.")


def refuse_another(source: Path, target: Path) -> None:
    """Raise an error if another file is at the place of an image; a link there may be replaced.

    Raises:
        I0TError: another file exists.
    """
    if target.is_symlink() or not target.exists() or not source.is_file() or source.samefile(target):
        return
    if not cmp(source, target, shallow=False):
        raise I0TError(f"{target}: exists, and is not {source}. Move it away and run this again.")


def place_file(source: Path, target: Path, copy: bool) -> bool:
    """Put a link to a file, or a copy of it, at `target`; return whether that was needed.

    A link of an earlier run that points elsewhere is replaced; a real file never is.

    Raises:
        I0TError: another file exists, or the folder cannot be written.
    """
    refuse_another(source, target)
    if not target.is_symlink() and target.exists():
        return False
    if not source.exists():
        return False  # a link of an earlier run, to a source that is not here now
    if target.is_symlink() and not copy and target.exists() and target.samefile(source):
        return False
    try:
        if copy:
            with atomic_path(target, sync=False) as temporary:
                shutil.copyfile(source, temporary)
        else:
            link(source, target)
    except OSError as error:
        remedy = "" if copy else " Where links cannot be made, use --copy."
        raise I0TError(f"{target}: cannot be made ({error.strerror}).{remedy}") from None
    return True


def link(source: Path, target: Path) -> None:
    """Make `target` a link to a file or folder, atomically replacing an older link."""
    ensure_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".link.") as folder:
        new = Path(folder) / target.name
        new.symlink_to(os.path.abspath(source))
        new.replace(target)


def first_in(folders: Iterable[Path], *names: str) -> Path:
    """Return the first of these names that exists in one of the folders; if none does, the first path."""
    paths = [folder / name for name in names for folder in folders]
    return next((path for path in paths if isfile(path)), paths[0])
