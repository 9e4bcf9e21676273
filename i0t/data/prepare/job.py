"""One preparation: what was asked for, and what each family needs to do it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from i0t.errors import I0TError
from i0t.files import atomic_path, ensure_folder
from i0t.paths import Roots

Pair = tuple[Path, Path]  # a picture of the owners, and where the layout wants it


@dataclass(frozen=True)
class Job:
    """What was asked for.

    Attributes:
        dataset: the name that evaluations know it by, e.g. "coco_val2017".
        source: `--from`; None with `--download`.
        roots: where to write.
        pictures: `--images`, the folder of the pictures where it is not below `source`.
        copy: copies instead of links.
        overwrite: replace a list that is there and differs.
        allow_partial: go on without pictures that are missing.
        download: fetch what a library can fetch.
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
    def folder(self) -> Path:
        """`--from`, which most need.

        Raises:
            I0TError: it was not given.
        """
        if self.source is None:
            raise I0TError(f"{self.dataset}: say where the owners' files are: --from FOLDER.")
        return self.source

    def find_file(self, *names: str) -> Path:
        """The first of these files that `--from` holds.

        Raises:
            I0TError: it holds none.
        """
        path = self.look_for(*names)
        if path is None:
            raise I0TError(f"{self.folder}: holds neither {' nor '.join(names)}. docs/data.md says where to get it.")
        return path

    def look_for(self, *names: str) -> Path | None:
        """The same; None if there is none."""
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)

    def picture_folders(self, *names: str) -> list[Path]:
        """`--images`, or those of these folders that `--from` holds.

        Raises:
            I0TError: there is none.
        """
        folders = [self.pictures] if self.pictures else [self.folder / name for name in names]
        there = [folder for folder in folders if folder.is_dir()]
        if not there:
            raise I0TError(
                f"{self.pictures or self.folder}: no folder of pictures"
                + (f" ({', '.join(names)})." if not self.pictures else ".")
                + " Say where they are: --images FOLDER."
            )
        return there

    def place(self, pairs: Sequence[Pair]) -> str:
        """Link or copy pictures to their places; what is there stays. Returns a line on what was done.

        Raises:
            I0TError: pictures are missing and `allow_partial` is not set; nothing has been placed then.
        """
        missing = [pair for pair in pairs if not pair[0].is_file() and not pair[1].is_file()]
        if missing and (not self.allow_partial or len(missing) == len(pairs)):
            raise I0TError(
                f"{missing[0][0]}: no such picture; {len(missing)} of {len(pairs)} that the list names are missing. "
                "Complete the download, or go on without them: --allow-partial."
            )
        left_out = set(missing)
        new = sum(
            place_file(source, target, self.copy)
            for source, target in tqdm(pairs, desc=self.dataset, unit=" pictures", disable=None)
            if (source, target) not in left_out
        )
        kept = len(pairs) - len(missing) - new
        return f"pictures {'copied' if self.copy else 'linked'}: {new}, already there: {kept}, missing: {len(missing)}"

    def write_list(self, path: Path, content: Any) -> str:
        """Write a JSON list as `write_text` does, one line an entry of the outermost list."""
        rows = (json.dumps(row, ensure_ascii=False) for row in content)
        text = "[\n" + ",\n".join(rows) + "\n]\n" if isinstance(content, list) else json.dumps(content) + "\n"
        return self.write_text(path, text)

    def write_text(self, path: Path, text: str) -> str:
        """Write a file unless the same is there. Returns a line on what was done.

        Raises:
            I0TError: another one is there, and `overwrite` is not set.
        """
        if path.is_file() and _same(path.read_text(encoding="utf-8"), text):
            return f"{path}: unchanged"
        if path.exists() and not self.overwrite:
            raise I0TError(f"{path}: is there and differs. Move it away, or replace it: --overwrite.")
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return f"{path}: written"


def _same(old: str, new: str) -> bool:
    """Whether two JSON texts say the same, however they are laid out."""
    if old == new:
        return True
    try:
        return json.loads(old) == json.loads(new)
    except json.JSONDecodeError:
        return False


def place_file(source: Path, target: Path, copy: bool) -> bool:
    """Put a link to a file, or a copy of it, at `target`; whether that was needed.

    A link of an earlier run that leads elsewhere, or nowhere, is replaced; a real file never is.

    Raises:
        I0TError: another file is there, or the folder cannot be written.
    """
    if not target.is_symlink() and target.exists():
        if source.is_file() and not source.samefile(target) and source.stat().st_size != target.stat().st_size:
            raise I0TError(f"{target}: is there, and is not {source}. Move it away and run this again.")
        return False
    if not source.exists():
        return False  # a link to what was there before, and still leads to it
    if target.is_symlink() and not copy and target.exists() and target.samefile(source):
        return False
    try:
        if copy:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        else:
            link(source, target)
    except OSError as error:
        remedy = "" if copy else " Where links cannot be made, use --copy."
        raise I0TError(f"{target}: cannot be made ({error.strerror}).{remedy}") from None
    return True


def link(source: Path, target: Path) -> None:
    """Make `target` a link to a file or folder, replacing a link that is there, in one step."""
    ensure_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".link.") as folder:
        new = Path(folder) / target.name
        new.symlink_to(os.path.abspath(source))
        new.replace(target)


def first_in(folders: Iterable[Path], *names: str) -> Path:
    """The first of these names that a folder holds; the first of all where none does."""
    paths = [folder / name for name in names for folder in folders]
    return next((path for path in paths if path.is_file()), paths[0])


def entries(content: Any, key: str, source: Path) -> list[dict[str, Any]]:
    """A list of objects under a key of a JSON file.

    Raises:
        I0TError: the file is of another form.
    """
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise I0TError(f'{source}: expected an object with a list "{key}" of objects. Is it another file?')
    return rows
