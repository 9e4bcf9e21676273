"""CIFAR-100: the folder or archive of its owners into `~/.cache`, where torchvision reads it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from torchvision.datasets import CIFAR100
from torchvision.datasets.utils import check_integrity

from i0t.data.prepare.job import Job, link
from i0t.errors import I0TError
from i0t.files import ensure_folder


def prepare_cifar100(job: Job) -> list[str]:
    """Download, link or unpack CIFAR-100, and let torchvision check its sums."""
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
    except RuntimeError:  # torchvision's word for missing and for damaged
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
        raise I0TError(f"{target}: is there, and torchvision finds it damaged. Move it away and run this again.")
    if not job.copy:
        link(folder, target)
        return f"{target}: linked to {folder}"
    with tempfile.TemporaryDirectory(dir=ensure_folder(target.parent)) as temporary:
        whole = shutil.copytree(folder, Path(temporary) / target.name)
        target.unlink(missing_ok=True)
        Path(whole).rename(target)
    return f"{target}: copied"


def _unpack(archive: Path, target: Path) -> str:
    """Unpack beside the target and move it there whole, so that an interrupted run leaves nothing half done."""
    if not check_integrity(str(archive), CIFAR100.tgz_md5):
        raise I0TError(f"{archive}: is not CIFAR-100 as published (MD5 differs). Download it again.")
    with tempfile.TemporaryDirectory(dir=ensure_folder(target.parent)) as temporary, tarfile.open(archive) as content:
        if hasattr(tarfile, "data_filter"):  # since Python 3.10.12: refuses members that would leave the folder
            content.extraction_filter = tarfile.data_filter
        content.extractall(temporary)
        if target.is_symlink():
            target.unlink()
        elif target.exists():
            raise I0TError(f"{target}: is there, and torchvision finds it damaged. Move it away and run this again.")
        (Path(temporary) / target.name).rename(target)
    return f"{target}: unpacked"
