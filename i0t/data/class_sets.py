"""Zero-shot classification sets: CIFAR-100 from torchvision, Birdsnap as class folders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i0t.data.datasets import Dataset
from i0t.data.entries import DatasetEntry
from i0t.data.items import Items
from i0t.errors import I0TError
from i0t.paths import Roots, config_file, say
from i0t.reading import read_text

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Folders of archives, tools and file servers.
LEFTOVERS = {"__MACOSX", "__pycache__", "@eaDir", "#recycle", "#snapshot", "@Recycle", "$RECYCLE.BIN", "lost+found"}
LEFTOVERS |= {"System Volume Information"}


@dataclass(frozen=True, kw_only=True)
class ClassSet(Dataset):
    """N images of C classes, with K prompt templates.

    Attributes:
        labels: N class indices.
        class_names: C names, as used in prompts.
        templates: K strings with one {} for the class name; other braces are text.
    """

    labels: Sequence[int]
    class_names: Sequence[str]
    templates: Sequence[str]

    def count_texts(self, per_image: int | None = None) -> int:
        """Number of classes."""
        return len(self.class_names)

    def items(self, prompt_mean: str = "normalised") -> Items:
        """Return the images and one text per class, which is encoded as the mean of its prompts.

        Args:
            prompt_mean: "normalised": prompts are normalised before the mean; "raw": they are not.
        """
        return Items(
            images=self.images,
            image_ids=self.image_ids,
            texts=self.class_names,
            owners=[(-1,)] * len(self.class_names),
            labels=self.labels,
            prompts=[[template.replace("{}", name) for template in self.templates] for name in self.class_names],
            normalize_prompts=prompt_mean == "normalised",
            metadata={**self.metadata(), "templates": list(self.templates), "prompt_mean": prompt_mean},
        )


def read_cifar100(entry: DatasetEntry, roots: Roots) -> ClassSet:
    """Read CIFAR-100's test images from torchvision's files.

    Raises:
        I0TError: the files are missing or damaged.
    """
    from torchvision.datasets import CIFAR100

    source = roots.below(entry.root, entry.file)
    try:
        data = CIFAR100(root=str(source.parent), train=False, download=False)
    except RuntimeError:
        raise I0TError(
            f"{source}: CIFAR-100 is missing or damaged. Fetch it: bash scripts/prepare_data.sh cifar100 --download."
        ) from None
    return ClassSet(
        name=entry.name,
        split=entry.split,
        source=source,
        images=_ArrayImages(data.data),
        image_ids=[f"test/{row}" for row in range(len(data))],
        labels=list(data.targets),
        class_names=[name.replace("_", " ") for name in data.classes],
        templates=read_templates(config_file("templates/cifar100.txt")),
    )


def read_class_folders(entry: DatasetEntry, roots: Roots) -> ClassSet:
    """Read images from one folder per class, with the templates of `templates.txt` beside them, else Birdsnap's.

    Hidden folders and files, and those that archives leave, are no classes or pictures.

    Raises:
        I0TError: the folder is missing or has no images, or two class folders are of one name.
    """
    folder = roots.below(entry.root, entry.file)
    if not folder.is_dir():
        raise I0TError(f"{folder}: no such folder (Birdsnap's test images, one folder per class).")
    # An empty folder is a class, too: the public copies of Birdsnap have some.
    classes = [path for path in without_leftovers(folder) if path.is_dir()]
    images = [(path, label) for label, class_folder in enumerate(classes) for path in pictures_in(class_folder)]
    if not images:
        raise I0TError(f"{folder}: no image in its class folders ({len(classes)} found).")
    own = folder.parent / "templates.txt"  # beside the images: prompts for another data set
    plain = [path.name.replace("_", " ") for path in classes]
    names = [name.lower() for name in plain] if own.is_file() else bird_names(plain)
    _refuse_same_name(classes, names)
    skipped = sum(len(list(path.iterdir())) - len(without_leftovers(path)) for path in (folder, *classes))
    if skipped:
        say(f"{folder}: {skipped} hidden files and folders (.* and those of archives) are left out.")
    if other := sum(len(without_leftovers(path)) for path in classes) - len(images):
        say(f"{folder}: {other} files and folders in its class folders are left out: none of {', '.join(SUFFIXES)}.")
    return ClassSet(
        name=entry.name,
        split=entry.split,
        source=folder,
        images=[path for path, _ in images],
        image_ids=[f"{path.parent.name}/{path.name}" for path, _ in images],
        labels=[label for _, label in images],
        class_names=names,
        templates=read_templates(own if own.is_file() else config_file("templates/birdsnap.txt")),
    )


def without_leftovers(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without hidden files and folders and those that archives leave."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in LEFTOVERS)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a class folder, sorted."""
    return [path for path in without_leftovers(folder) if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def _refuse_same_name(folders: Sequence[Path], names: Sequence[str]) -> None:
    seen: dict[str, Path] = {}
    for folder, name in zip(folders, names, strict=True):
        plain = unicodedata.normalize("NFKC", name).casefold()
        other = seen.setdefault(" ".join(plain.split()), folder)
        if other is not folder:
            raise I0TError(f"{folder}: the same class as {other} ({name}). Put their images into one folder.")


def bird_names(folders: Sequence[str]) -> list[str]:
    """Map Birdsnap's class folders to the names in OpenAI's prompts; unknown folders keep their name, with blanks."""
    known = {letters(name): name for name in read_class_names("birdsnap")}
    return [known.get(letters(folder), folder.replace("_", " ")) for folder in folders]


def letters(name: str) -> str:
    """Return a class name without case, blanks and signs, which differ between copies."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_class_names(name: str) -> list[str]:
    """Read `configs/classes/NAME.txt`: one class name per line; # starts a comment.

    Raises:
        I0TError: the file is missing.
    """
    return _lines(config_file(f"classes/{name}.txt"), "It comes with i0t.")


def read_templates(path: Path) -> list[str]:
    """Read prompt templates: one per line, with one {} for the class name (other braces are text); # starts a comment.

    Raises:
        I0TError: the file is missing, has no template, or one without {}.
    """
    templates = _lines(path, "It needs one prompt template per line, as configs/templates/cifar100.txt has them.")
    if not templates or any(line.count("{}") != 1 for line in templates):
        raise I0TError(f"{path}: every line must be a template with one {{}} for the class name.")
    return templates


def _lines(path: Path, remedy: str) -> list[str]:
    """Return the lines of a text file, without comments and empty lines."""
    lines = [line.strip() for line in read_text(path, remedy.removesuffix(".")).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


class _ArrayImages(Sequence[Any]):
    """PIL images of CIFAR's (N, 32, 32, 3) uint8 array, made on access."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image

        return Image.fromarray(self.array[index])
