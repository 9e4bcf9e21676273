"""ShareGPT4V: the 1.2 M captions, and the three folders of pictures that they are about.

The file and whole folders are linked (with `--copy`, the file alone is copied: half a terabyte of SAM is not).
"""

from __future__ import annotations

from pathlib import Path

from i0t.data.prepare.job import Job, link, place_file
from i0t.data.record_stream import scan_records, stream_records
from i0t.data.sharegpt4v import FILE, IMAGES
from i0t.errors import I0TError

# Where the layout has a folder, and where it may lie below --from: in ShareGPT4V's own tree, or as its archive unpacks.
FOLDERS = {
    "coco/train2017": ("coco/train2017", "train2017"),
    "llava/llava_pretrain/images": ("llava/llava_pretrain/images", "LLaVA-Pretrain/images", "llava_pretrain/images"),
    "sam/images": ("sam/images", "sam"),
}


def prepare_sharegpt4v(job: Job) -> list[str]:
    """Link the file and the folders that are there; say how many pictures of each the records miss."""
    name = Path(FILE).name
    source, target = job.find_file(name), job.roots.data_dir / FILE
    next(stream_records(source))  # a file of another form is told before anything is linked
    lines = _link_folders(job)
    place_file(source, target, job.copy)
    scan = scan_records(job.roots.data_dir, progress=True)
    missing = [f"{count} of {folder}" for folder, count in scan.missing_by_folder.items()]
    if missing and not job.allow_partial:
        raise I0TError(
            f"{source}: {scan.n_missing} of the {scan.records} pictures it lists are missing: {', '.join(missing)}. "
            "What is there has been linked; complete the folders and run this again, or stop here: --allow-partial."
        )
    return [*lines, f"{target}: {scan.records} records, {len(scan.pictures)} pictures found, {scan.n_missing} missing"]


def _link_folders(job: Job) -> list[str]:
    roots = [job.pictures] if job.pictures else [job.folder / "data", job.folder]
    lines = []
    for place, names in FOLDERS.items():
        target = job.roots.data_dir / IMAGES / place
        there = next((root / name for name in names for root in roots if (root / name).is_dir()), None)
        if target.is_dir() and (there is None or not target.is_symlink() or target.samefile(there)):
            lines.append(f"{place}: already there")
        elif there is None:
            lines.append(f"{place}: not in {roots[-1]}")
        else:
            link(there, target)
            lines.append(f"{place}: linked to {there}")
    return lines
