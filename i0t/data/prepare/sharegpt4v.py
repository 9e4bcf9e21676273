"""ShareGPT4V: the 1.2 M captions, and the three folders of pictures that they are about.

The file and whole folders are linked (with `--copy`, the file alone is copied: half a terabyte of SAM is not).
"""

from __future__ import annotations

from i0t.data.caption_index import stream_pairs
from i0t.data.prepare.job import Job, link, place_file, refuse_another

# Where the layout has a folder, and where it may lie below --from: in ShareGPT4V's own tree, or as its archive unpacks.
FOLDERS = {
    "coco/train2017": ("coco/train2017", "train2017"),
    "llava/llava_pretrain/images": ("llava/llava_pretrain/images", "LLaVA-Pretrain/images", "llava_pretrain/images"),
    "sam/images": ("sam/images", "sam"),
}


def prepare_sharegpt4v(job: Job) -> list[str]:
    """Link the file and the folders that are there; counting what they lack is left to the census, as it takes long."""
    target = job.list_file
    source = job.find_file(target.name)
    next(stream_pairs(source))  # a file of another form is told before anything is linked
    refuse_another(source, target)
    lines = _link_folders(job)
    new = place_file(source, target, job.copy)
    return [*lines, f"{target}: {'placed' if new else 'already there'}"]


def _link_folders(job: Job) -> list[str]:
    roots = [job.pictures] if job.pictures else [job.folder / "data", job.folder]
    lines = []
    for place, names in FOLDERS.items():
        target = job.target / place
        there = next((root / name for name in names for root in roots if (root / name).is_dir()), None)
        if target.is_dir() and (there is None or not target.is_symlink() or target.samefile(there)):
            lines.append(f"{place}: already there")
        elif there is None:
            lines.append(f"{place}: not in {roots[-1]}")
        else:
            link(there, target)
            lines.append(f"{place}: linked to {there}")
    return lines
