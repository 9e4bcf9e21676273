"""Draw the images of the sample with a few processes, and write their captions.

Each process gets chunks of scene numbers and returns records. A scene has its own random generator
(see `parts`), so the result does not depend on the chunks or processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from i0t.data.sample.annotations import Record, image_path
from i0t.data.sample.candidates import (
    CROWD_PLAN,
    EXPERT_PLAN,
    OTHER,
    crowd_entries,
    draw_candidates,
    expert_entries,
    lose_rating,
)
from i0t.data.sample.caption_text import long_caption
from i0t.data.sample.parts import Part, captioned_scene, generator, scene_at
from i0t.data.sample.scenes import Scene, paint

CHUNK = 100
# For fewer images, starting processes takes longer than it saves.
FEWEST_FOR_PROCESSES = 1_000
JPEG = {"quality": 92, "subsampling": 0}  # full colour resolution: a small object is 13 pixels wide
CAPTIONS = {Part.FLICKR: 5, Part.COCO: 5, Part.NOCAPS: 10}
# One rating of every 20th rated image is NaN, in both files, beginning with the first image.
NAN_EVERY = 20
# Candidates that are captions of other images come from this many following images.
_NEIGHBOURS = max(plan.count(OTHER) for plan in (EXPERT_PLAN, CROWD_PLAN))


@dataclass(frozen=True)
class Chunk:
    """Scenes `start` to `stop` - 1 of a part."""

    root: Path
    seed: int
    part: Part
    start: int
    stop: int


def draw_all(root: Path, counts: dict[Part, int], seed: int) -> dict[Part, list[Record]]:
    """Draw `counts[part]` images of every part below `root`; return their records in order."""
    chunks = [
        Chunk(root, seed, part, start, min(start + CHUNK, count))
        for part, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    total = sum(counts.values())
    records: dict[Part, list[Record]] = {part: [] for part in counts}
    with _mapper(worker_count(total)) as mapper:
        results = mapper(draw_chunk, chunks)  # starts the processes, before the bar starts its thread
        with tqdm(total=total, desc="built-in sample", unit=" images") as bar:
            for chunk, drawn in zip(chunks, results, strict=True):
                records[chunk.part] += drawn
                bar.update(len(drawn))
    return records


def worker_count(total: int) -> int:
    """Number of processes to draw `total` images; 1 means this one."""
    return 1 if total < FEWEST_FOR_PROCESSES else max(1, min(4, os.cpu_count() or 1))


def draw_chunk(chunk: Chunk) -> list[Record]:
    """Draw and save the images of a chunk; return their records."""
    return [_draw(chunk.root, chunk.seed, chunk.part, index) for index in range(chunk.start, chunk.stop)]


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[list[Record]]]]:
    """`map`, with this many processes."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, stop at once; waits, as `with` would take it back
            raise


def _draw(root: Path, seed: int, part: Part, index: int) -> Record:
    path = image_path(root, part, index)
    record = Record(path.name)
    if part in (Part.TRAIN, Part.VALIDATION):
        scene, rng = scene_at(seed, part, index)
        record.captions = [long_caption(scene, rng)]
    elif part is Part.CLASSES:
        scene, _ = scene_at(seed, part, index)
    else:
        scene, captions = captioned_scene(seed, part, index, CAPTIONS.get(part, 5))
        record.captions = list(captions)
        if part is Part.JUDGED:
            _judge(record, scene, seed, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    paint(scene).save(path, "JPEG", **JPEG)
    return record


def _judge(record: Record, scene: Scene, seed: int, index: int) -> None:
    """Add candidates and ratings in both forms to the record of a rated image."""
    others = [captioned_scene(seed, Part.JUDGED, index + step)[0] for step in range(1, 1 + _NEIGHBOURS)]
    forms = (
        (record.expert, EXPERT_PLAN, expert_entries),
        (record.crowd, CROWD_PLAN, crowd_entries),
    )
    for purpose, (entries, plan, rate) in enumerate(forms, start=1):
        rng = generator(seed, Part.JUDGED, index, purpose)
        candidates = draw_candidates(plan, scene, others, record.captions, rng)
        entries += rate(candidates, scene, rng)
        if index % NAN_EVERY == 0:
            lose_rating(entries, rng)
