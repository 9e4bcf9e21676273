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

from i0t.data.datasets import DATASETS
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
    def list_file(self) -> Path:
        """The file or folder that the data set will be read from."""
        entry = DATASETS[self.dataset]
        return self.roots.below(entry.root, entry.file)

    @property
    def target(self) -> Path:
        """The folder that its pictures go to."""
        entry = DATASETS[self.dataset]
        return self.roots.below(entry.root, entry.pictures or entry.file)

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
            I0TError: pictures are missing and `allow_partial` is not set, or another is at the place of one; nothing
                has been placed then.
        """
        missing = [pair for pair in pairs if not pair[0].is_file() and not pair[1].is_file()]
        if missing and (not self.allow_partial or len(missing) == len(pairs)):
            raise I0TError(
                f"{missing[0][0]}: no such picture; {len(missing)} of {len(pairs)} that the list names are missing. "
                "Complete the download, or go on without them: --allow-partial."
            )
        for source, target in pairs:
            refuse_another(source, target)
        left_out = set(missing)
        new = sum(
            place_file(source, target, self.copy)
            for source, target in tqdm(pairs, desc=self.dataset, unit=" pictures", disable=None)
            if (source, target) not in left_out
        )
        kept = len(pairs) - len(missing) - new
        return f"pictures {'copied' if self.copy else 'linked'}: {new}, already there: {kept}, missing: {len(missing)}"

    def place_with_list(self, pairs: Sequence[Pair], path: Path, content: Any) -> list[str]:
        """Place pictures, and write the JSON file that lists them, unless the same is there. Returns two lines.

        The file comes last, so that nothing looks prepared before it is; whether it may be written is settled first.

        Raises:
            I0TError: as `place`, or another list is there and `overwrite` is not set; nothing has been placed then.
        """
        text = _laid_out(content)
        same = path.is_file() and _same(path.read_bytes(), text)
        if path.exists() and not (same or self.overwrite):
            raise I0TError(f"{path}: is there and differs. Move it away, or replace it: --overwrite.")
        placed = self.place(pairs)
        if same:
            return [placed, f"{path}: unchanged"]
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return [placed, f"{path}: written"]


def _laid_out(content: Any) -> str:
    """JSON, one line an entry of the outermost list."""
    if not isinstance(content, list):
        return json.dumps(content) + "\n"
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in content) + "\n]\n"


def _same(old: bytes, text: str) -> bool:
    """Whether a file says in JSON what a text says, however it is laid out."""
    if old == text.encode():
        return True
    try:
        return json.loads(old) == json.loads(text)
    except ValueError:  # no JSON, or no text at all
        return False


def refuse_another(source: Path, target: Path) -> None:
    """Make sure that a picture's place is free, or has the picture or a link, which may be replaced.

    Raises:
        I0TError: another file is there.
    """
    if target.is_symlink() or not target.exists() or not source.is_file() or source.samefile(target):
        return
    if source.stat().st_size != target.stat().st_size:
        raise I0TError(f"{target}: is there, and is not {source}. Move it away and run this again.")


def place_file(source: Path, target: Path, copy: bool) -> bool:
    """Put a link to a file, or a copy of it, at `target`; whether that was needed.

    A link of an earlier run that leads elsewhere, or nowhere, is replaced; a real file never is.

    Raises:
        I0TError: another file is there, or the folder cannot be written.
    """
    refuse_another(source, target)
    if not target.is_symlink() and target.exists():
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
