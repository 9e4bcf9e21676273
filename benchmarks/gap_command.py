"""`i0t gap` as a whole on large sets, against one product of all images with all texts: time, and peak memory.

    python -m benchmarks --only gap_command

The product is NumPy's in float32, in the same blocks and with as many threads; each run is a fresh process. Seconds are
of the processor, which other programs on the machine hardly change. Memory is all of the process, imports included,
less the two arrays.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import in_fresh_process, spread, unit_vectors
from benchmarks.row import Row
from i0t.__main__ import main as i0t
from i0t.gap.unit_pairs import tiles
from i0t.results.record import peak_memory_bytes

THIS = "benchmarks.gap_command"
MIB = 2**20
GAP = 0.6  # of each modality along its own axis, about as CLIP's
ROUNDS = 2


def rows(quick: bool) -> list[Row]:
    """Rows of the table."""
    return [_row(n) for n in ([25_000] if quick else [25_000, 50_000, 100_000])]


def _row(n: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        in_fresh_process(THIS, "make", folder, n)
        found = [
            (in_fresh_process(THIS, "gap", folder), in_fresh_process(THIS, "product", folder)) for _ in range(ROUNDS)
        ]
    ratios = [ours["seconds"] / rival["seconds"] for ours, rival in found]
    above = max(ours["bytes"] for ours, _ in found) - 2 * n * 512 * 4
    note = f"{spread(ratios)}; {above / MIB:.0f} MiB above the inputs (goal <= 1024)"
    work, goal = f"i0t gap, {n} + {n} x 512 float32", "<= 3 at 100 000"
    return Row(work, "the product alone, in blocks", median(ratios), goal, note)


def make(folder: Path, n: int) -> None:
    """Write pairs of images and texts that share a part and lie in two cones, as `images.npy` and `texts.npy`."""
    shared = unit_vectors(n, seed=0)
    for number, name in enumerate(("images", "texts")):
        features = unit_vectors(n, seed=1 + number)
        features += shared
        features[:, number] += GAP * np.sqrt(2)
        np.save(folder / f"{name}.npy", features / np.linalg.norm(features, axis=1, keepdims=True))


def _measured(what: str, folder: Path) -> dict[str, float]:
    """Processor seconds and peak bytes of this process."""
    files = [str(folder / f"{name}.npy") for name in ("images", "texts")]
    if what == "gap":
        assert i0t(["gap", *files]) == 0
        return {"seconds": time.process_time(), "bytes": peak_memory_bytes()}
    images, texts = map(np.load, files)
    before = time.process_time()
    for _ in tiles(images, texts):
        pass
    return {"seconds": time.process_time() - before, "bytes": peak_memory_bytes()}


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(make(folder, int(sys.argv[3])) if what == "make" else _measured(what, folder)))
