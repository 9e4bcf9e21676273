"""CIFAR-100 and Birdsnap: images with classes, from the files that their owners publish.

CIFAR-100 goes to `~/.cache`, where torchvision reads it. Birdsnap's owners publish lists, not images: `species.txt`,
`images.txt`, `test_images.txt` and a script that downloads what is left on Flickr to `download/images/<class folder>/`.
Other copies already are class folders.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path

from torchvision.datasets import CIFAR100
from torchvision.datasets.utils import check_integrity

from i0t.data.class_sets import letters, pictures_in, read_class_names, without_leftovers
from i0t.data.datasets import DATASETS
from i0t.data.prepare.job import Job, Pair, first_in, link
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.reading import read_text


def prepare_cifar100(job: Job) -> list[str]:
    """Download, link or unpack CIFAR-100; torchvision checks the checksums."""
    target = job.target
    root = target.parent
    if _is_whole(root):
        return [f"{target}: already there"]
    if job.download:
        return [_download(root)]
    folder = job.look_for(f"{CIFAR100.base_folder}/test", "test")
    archive = job.look_for(CIFAR100.filename)
    if folder is not None:
        line = _take_folder(folder.parent, target, job)
    elif archive is not None:
        line = _unpack(archive, target)
    else:
        raise I0TError(
            f"{job.folder}: holds neither {CIFAR100.base_folder}/ nor {CIFAR100.filename}. Fetch it: --download."
        )
    if not _is_whole(root):
        raise I0TError(f"{folder.parent if folder else archive}: torchvision finds it damaged. Download it again.")
    return [line]


def _is_whole(root: Path) -> bool:
    try:
        CIFAR100(root=str(root), train=False, download=False)
    except RuntimeError:  # torchvision raises this for missing and for damaged files
        return False
    return True


def _download(root: Path) -> str:
    try:
        CIFAR100(root=str(ensure_folder(root)), train=False, download=True)
    except (RuntimeError, OSError) as error:
        raise I0TError(f"{root}: CIFAR-100 could not be downloaded ({error}).") from None
    return f"{root / CIFAR100.base_folder}: downloaded"


def _take_folder(folder: Path, target: Path, job: Job) -> str:
    if target.exists() and not target.is_symlink():
        raise I0TError(f"{target}: exists, and torchvision finds it damaged. Move it away and run this again.")
    if not job.copy:
        link(folder, target)
        return f"{target}: linked to {folder}"
    with tempfile.TemporaryDirectory(dir=ensure_folder(target.parent)) as temporary:
        whole = shutil.copytree(folder, Path(temporary) / target.name)
        target.unlink(missing_ok=True)
        Path(whole).rename(target)
    return f"{target}: copied"


def _unpack(archive: Path, target: Path) -> str:
    """Unpack beside the target and move it there as a whole, so that an interrupted run leaves no partial folder."""
    if not check_integrity(str(archive), CIFAR100.tgz_md5):
        raise I0TError(f"{archive}: is not CIFAR-100 as published (MD5 differs). Download it again.")
    with tempfile.TemporaryDirectory(dir=ensure_folder(target.parent)) as temporary, tarfile.open(archive) as content:
        if hasattr(tarfile, "data_filter"):  # since Python 3.10.12: refuses members that would leave the folder
            content.extraction_filter = tarfile.data_filter
        content.extractall(temporary)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            raise I0TError(f"{target}: exists, and torchvision finds it damaged. Move it away and run this again.")
        (Path(temporary) / target.name).rename(target)
    return f"{target}: unpacked"


def prepare_birdsnap(job: Job) -> list[str]:
    """Link the test images, and make every class folder, even an empty one: a class without images still counts."""
    target = job.target
    names = {letters(name): name.replace(" ", "_") for name in read_class_names("birdsnap")}
    test_list = job.look_for("test_images.txt", "birdsnap/test_images.txt")
    if test_list is None:
        pairs, gone = list(_of_class_folders(job, names, target)), ""
    else:
        pairs, gone = _of_test_list(job, test_list, names, target)
    if not pairs:
        raise I0TError(f"{job.folder}: no test image found. Download them with Birdsnap's get_birdsnap.py first.")
    placed = job.place(pairs)
    for name in names.values():
        ensure_folder(target / name)
    empty = len(names) - len({pair[1].parent for pair in pairs})
    lines = [f"{len(names)} class folders, {empty} of them without images", placed]
    return [*lines, gone] if gone else lines


def _of_test_list(job: Job, test_list: Path, names: dict[str, str], target: Path) -> tuple[list[Pair], str]:
    """Return the images of the owners' list that exist, and a line about those that do not."""
    folders = job.image_folders("download/images", "images", "birdsnap/download/images", ".")
    listed = [line.strip() for line in read_text(test_list, "Birdsnap's list of test images").splitlines()]
    if not listed or listed[0] != "path":
        raise I0TError(f'{test_list}: expected the header "path" in line 1. Is it Birdsnap\'s test_images.txt?')
    pairs, gone = [], 0
    for number, line in enumerate(listed[1:], start=2):
        if not line:
            continue
        folder, _, name = line.partition("/")
        if letters(folder) not in names or not name:
            raise I0TError(f"{test_list}:{number}: {line}: not an image of one of Birdsnap's classes.")
        source, place = first_in(folders, line), target / names[letters(folder)] / name
        if isfile(source) or isfile(place):
            pairs.append((source, place))
        else:
            gone += 1
    return (
        pairs,
        f"{gone} of the {len(pairs) + gone} listed are not there ({DATASETS[job.dataset].why})" if gone else "",
    )


def _of_class_folders(job: Job, names: dict[str, str], target: Path) -> Iterator[Pair]:
    """Yield every image of the class folders in `test`, or directly in `--from`."""
    folder = job.image_folders("test", "birdsnap/test", ".")[0]
    owners: dict[str, Path] = {}
    for class_folder in (path for path in without_leftovers(folder) if path.is_dir()):
        key = letters(class_folder.name)
        if key not in names:
            raise I0TError(f"{class_folder}: not one of Birdsnap's 500 classes (configs/classes/birdsnap.txt).")
        if key in owners:
            raise I0TError(f"{class_folder}: the same class as {owners[key]}. Put their images into one folder.")
        owners[key] = class_folder
        for image in pictures_in(class_folder):
            yield image, target / names[key] / image.name
