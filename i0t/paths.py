"""Where data, checkpoints and results live: the path files under `configs`, read when needed.

Recipes, specs, templates and class names come with the package, as `i0t/configs`. In a checkout that is a link to its
`configs`, which has the path files, too, and results go to its `tensors`. An installed package has no checkout: its
user's path files are in ~/.config/i0t, and results go to `tensors` in the current folder.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from i0t.errors import I0TError, first_line
from i0t.files import atomic_path, is_writable
from i0t.processes import is_main
from i0t.reading import read_text
from i0t.scripts import IS_CHECKOUT as IS_CHECKOUT
from i0t.scripts import REPO as REPO
from i0t.scripts import SHIPPED

TENSORS = REPO / "tensors" if IS_CHECKOUT else Path("tensors")
CHECKPOINT_FOLDER = "checkpoints"
CACHE_ROOT = Path("~/.cache")  # where torchvision looks


def configs_folder() -> Path:
    """Folder of the path files: $I0T_CONFIGS, else `configs` of the checkout, else ~/.config/i0t."""
    if named := os.environ.get("I0T_CONFIGS"):
        return Path(named)
    return SHIPPED if IS_CHECKOUT else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "i0t"


def config_file(name: str | Path) -> Path:
    """Path of a recipe, spec, template or list, e.g. "recipes/lccom.yaml": the user's own, else that of the package."""
    own, shipped = configs_folder() / name, SHIPPED / name
    return shipped if os.path.isfile(shipped) and not os.path.isfile(own) else own


def config_names(kind: str) -> list[str]:
    """Names of the YAML files in a folder such as "recipes", the user's own and those of the package."""
    folders = {configs_folder() / kind, SHIPPED / kind}
    found = {path.relative_to(folder) for folder in folders for path in folder.rglob("[!.]*.yaml")}
    return sorted(path.with_suffix("").as_posix() for path in found)


def say(message: str) -> None:
    """Print a line on standard error (standard output is for results), from the main process only."""
    if is_main():
        print(message, file=sys.stderr, flush=True)


def read_path_file(name: str) -> tuple[str, str]:
    """Return the line that is not empty and no comment, and its place "file:line" ("" and the file if none).

    Raises:
        I0TError: two such lines, or no UTF-8 text.
    """
    path = configs_folder() / name
    lines = read_text(path, "a path").splitlines() if path.exists() else []
    named = [
        (line.strip(), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if len(named) > 1:
        raise I0TError(f"{named[1][1]}: a second path; one is expected. Write # before the lines that do not count.")
    return named[0] if named else ("", str(path))


@dataclass(frozen=True)
class Roots:
    """The two data roots; one may be missing as long as nothing needs it.

    Attributes:
        main: `<data_dir>` of the README (training data, judgments, checkpoints), if set.
        sub: `<data_dir_sub>` (retrieval images and captions), if set.
        is_sample: whether they are the built-in sample.
    """

    main: Path | None
    sub: Path | None
    is_sample: bool = False

    @property
    def data_dir(self) -> Path:
        """`<data_dir>`; raises an error if it is not set."""
        return self._set(self.main, "root.txt", "<data_dir>")

    @property
    def data_dir_sub(self) -> Path:
        """`<data_dir_sub>`; raises an error if it is not set."""
        return self._set(self.sub, "subroot.txt", "<data_dir_sub>")

    def folder(self, root: str) -> Path | None:
        """The root "main", "sub" or "cache" (where torchvision keeps its sets); None if it is not set."""
        return {"main": self.main, "sub": self.sub, "cache": CACHE_ROOT.expanduser()}[root]

    def below(self, root: str, place: str) -> Path:
        """A path below a root; raises an error if the root is not set."""
        return (self.folder(root) or (self.data_dir if root == "main" else self.data_dir_sub)) / place

    def checkpoints(self) -> Path:
        """`<data_dir>/checkpoints`, or `tensors/checkpoints` if that cannot be written."""
        folder = self.data_dir / CHECKPOINT_FOLDER
        return folder if is_writable(folder) else TENSORS / CHECKPOINT_FOLDER

    @staticmethod
    def _set(folder: Path | None, file: str, what: str) -> Path:
        if folder is None:
            raise I0TError(
                f"{configs_folder() / file}: empty, while the other path file is set. Write {what} into it "
                "(see the README)."
            )
        return folder


def configured_roots(data_dir: str | None = None, data_dir_sub: str | None = None) -> Roots:
    """Return the data roots from flags, else from the path files; a root that is not set is None.

    Raises:
        I0TError: a path does not exist.
    """
    main = _existing(data_dir, "--data-dir", Path()) or _existing(*read_path_file("root.txt"))
    sub = _existing(data_dir_sub, "--data-dir-sub", Path()) or _existing(*read_path_file("subroot.txt"))
    return Roots(main, sub)


def configured_data_dir() -> Path | None:
    """Return `<data_dir>` from `configs/root.txt`, or None if it is not set.

    Raises:
        I0TError: the path does not exist.
    """
    return _existing(*read_path_file("root.txt"))


def _existing(value: str | None, place: str, start: Path | None = None) -> Path | None:
    """Resolve a folder: relative to `start`; of a path file, to the checkout or, without one, to the file's folder."""
    if not value:
        return None
    start = (REPO if IS_CHECKOUT else configs_folder()) if start is None else start
    try:
        folder = (start / Path(value).expanduser()).absolute()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, ~ of nobody, a NUL
        raise I0TError(f"{place}: no folder can be called {value!r:.60} ({first_line(error):.80}).") from None
    if not is_folder:
        or_else = "" if place.startswith("--") else ", or empty the file to use the sample"
        raise I0TError(f"{place}: no such folder: {folder}. Correct the path{or_else}.")
    return folder


def write_last_checkpoint(path: Path, roots: Roots) -> None:
    """Write a checkpoint into `configs/ckpt_file_name.txt`: its name in `<data_dir>/checkpoints`, else its path."""
    inside = roots.main is not None and path.parent.resolve() == (roots.main / CHECKPOINT_FOLDER).resolve()
    note = configs_folder() / "ckpt_file_name.txt"
    with atomic_path(note) as temporary:
        temporary.write_text(f"{path.name if inside else path.resolve()}\n", encoding="utf-8")


def last_checkpoint(roots: Roots) -> Path:
    """Return the checkpoint that `configs/ckpt_file_name.txt` names.

    Raises:
        I0TError: none is named, or the file is not there.
    """
    name, place = read_path_file("ckpt_file_name.txt")
    if not name:
        raise I0TError(f"{place}: no checkpoint is named yet. Run scripts/train.sh first, or pass --model.")
    folders = [TENSORS / CHECKPOINT_FOLDER]
    if roots.main is not None:
        folders.insert(0, roots.main / CHECKPOINT_FOLDER)
    for folder in folders:
        if (folder / name).is_file():  # an absolute name stays itself
            return folder / name
    raise I0TError(
        f"{place}: no checkpoint {name} in {folders[0]}. Run scripts/train.sh first, correct the name, or pass --model."
    )
