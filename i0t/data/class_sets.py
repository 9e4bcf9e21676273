"""Zero-shot classification sets: CIFAR-100 from torchvision, Birdsnap as class folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from i0t.data.images import ImageSource
from i0t.errors import I0TError
from i0t.paths import Roots, configs_folder

BIRDSNAP = "zeroshot_datasets/birdsnap/test"
CIFAR_ROOT = Path("~/.cache")
CLASS_SETS = ("cifar100", "birdsnap")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class ClassSet:
    """N pictures of C classes, with K prompt templates.

    Attributes:
        name: "cifar100" or "birdsnap".
        images: N paths or PIL images.
        image_ids: N names.
        labels: N class indices.
        class_names: C names as they stand in a prompt.
        templates: K strings with {} for the class name.
        source: where the pictures lie.

    Example:
        >>> birds = ClassSet("birds", ["a.jpg"], ["a.jpg"], [1], ["robin", "wren"], ["a photo of a {}."], "/birds")
        >>> birds.templates[0].format(birds.class_names[birds.labels[0]])
        'a photo of a wren.'
    """

    name: str
    images: Sequence[ImageSource]
    image_ids: list[str]
    labels: list[int]
    class_names: list[str]
    templates: list[str]
    source: str


def class_set_present(name: str, roots: Roots) -> bool:
    """Whether the files of a classification set are there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     class_set_present("birdsnap", Roots(Path(folder), None))
        ...     Path(folder, BIRDSNAP).mkdir(parents=True)
        ...     class_set_present("birdsnap", Roots(Path(folder), None))
        False
        True
    """
    if name == "cifar100":
        return (CIFAR_ROOT.expanduser() / "cifar-100-python" / "test").is_file()
    return roots.main is not None and (roots.main / BIRDSNAP).is_dir()


def load_class_set(name: str, roots: Roots) -> ClassSet:
    """Read a classification set ("cifar100" or "birdsnap").

    Raises:
        I0TError: the files are missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     picture = Path(folder, BIRDSNAP, "Scarlet_Tanager", "1.jpg")
        ...     picture.parent.mkdir(parents=True)
        ...     picture.touch()
        ...     birds = load_class_set("birdsnap", Roots(Path(folder), None))
        >>> birds.class_names, birds.image_ids, birds.labels
        (['Scarlet Tanager'], ['Scarlet_Tanager/1.jpg'], [0])
    """
    return _load_cifar100() if name == "cifar100" else _load_birdsnap(roots.data_dir / BIRDSNAP)


def _load_cifar100() -> ClassSet:
    from torchvision.datasets import CIFAR100

    root = CIFAR_ROOT.expanduser()
    try:
        data = CIFAR100(root=str(root), train=False, download=False)
    except RuntimeError:
        raise I0TError(
            f"{root / 'cifar-100-python'}: CIFAR-100 is missing or damaged. Fetch it once with "
            f"python -c \"from torchvision.datasets import CIFAR100; CIFAR100('{root}', download=True)\"."
        ) from None
    return ClassSet(
        name="cifar100",
        images=_ArrayImages(data.data),
        image_ids=[f"test/{row}" for row in range(len(data))],
        labels=list(data.targets),
        class_names=[name.replace("_", " ") for name in data.classes],
        templates=read_templates(configs_folder() / "templates" / "cifar100.txt"),
        source=str(root / "cifar-100-python"),
    )


def _load_birdsnap(folder: Path) -> ClassSet:
    if not folder.is_dir():
        raise I0TError(f"{folder}: no such folder (Birdsnap's test pictures, one folder a class).")
    # An empty class folder still is a class: the public copies of Birdsnap have some.
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images = [
        (path, label)
        for label, class_folder in enumerate(classes)
        for path in sorted(class_folder.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not images:
        raise I0TError(f"{folder}: no picture in its class folders ({len(classes)} found).")
    own = folder.parent / "templates.txt"  # beside the pictures: prompts that fit another data set
    plain = [path.name.replace("_", " ") for path in classes]
    names = [name.lower() for name in plain] if own.is_file() else bird_names(plain)
    return ClassSet(
        name="birdsnap",
        images=[path for path, _ in images],
        image_ids=[f"{path.parent.name}/{path.name}" for path, _ in images],
        labels=[label for _, label in images],
        class_names=names,
        templates=read_templates(own if own.is_file() else configs_folder() / "templates" / "birdsnap.txt"),
        source=str(folder),
    )


def bird_names(folders: Sequence[str]) -> list[str]:
    """The names of Birdsnap's class folders as OpenAI's prompts have them; others keep theirs, with blanks.

    Example:
        >>> bird_names(["Allen's_Hummingbird", "american-three-toed-woodpecker", "Dodo_bird"])
        ['Allens Hummingbird', 'American Three toed Woodpecker', 'Dodo bird']
    """
    known = {letters(name): name for name in read_class_names("birdsnap")}
    return [known.get(letters(folder), folder.replace("_", " ")) for folder in folders]


def letters(name: str) -> str:
    """A class name without case, blanks and signs, which differ from copy to copy.

    Example:
        >>> letters("Allen's_Hummingbird")
        'allenshummingbird'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_class_names(name: str) -> list[str]:
    """Class names of `configs/classes/NAME.txt`, one a line; # starts a comment.

    Raises:
        I0TError: the file is missing.

    Example:
        >>> names = read_class_names("birdsnap")
        >>> len(names), names[0]
        (500, 'Acadian Flycatcher')
    """
    return _lines(configs_folder() / "classes" / f"{name}.txt", "It comes with the checkout.")


def read_templates(path: Path) -> list[str]:
    """Prompt templates, one a line, each with {} for the class name; # starts a comment.

    Raises:
        I0TError: the file is missing, has no template, or one without {}.

    Example:
        >>> read_templates(configs_folder() / "templates" / "birdsnap.txt")
        ['a photo of a {}, a type of bird.']
    """
    templates = _lines(path, "It needs one prompt template a line, as configs/templates/cifar100.txt has them.")
    if not templates or any(line.count("{}") != 1 for line in templates):
        raise I0TError(f"{path}: every line must be a template with one {{}} for the class name.")
    return templates


def _lines(path: Path, remedy: str) -> list[str]:
    """The lines of a text file that hold more than a comment."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise I0TError(f"{path}: cannot be read ({error.strerror}). {remedy}") from None
    except UnicodeDecodeError as error:
        raise I0TError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). {remedy}") from None
    return [line for line in lines if line and not line.startswith("#")]


class _ArrayImages(Sequence):
    """CIFAR's uint8 array as PIL images, made when asked for."""

    def __init__(self, array: object) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> ImageSource:
        from PIL import Image

        return Image.fromarray(self.array[index])
