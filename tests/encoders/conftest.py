"""Models and images that the tests of this room share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_clip import jittered, small_clip

from i0t import Encoder, load_encoder, processes


@pytest.fixture(scope="session")
def tiny() -> Encoder:
    """The sample's architecture; tests leave it as it is."""
    torch.manual_seed(0)
    return jittered(load_encoder("tiny"))


@pytest.fixture
def small() -> Encoder:
    """A CLIP with 77 text positions that a test may change."""
    return small_clip()


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Noise images of several sizes."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (80, 50), (33, 90), (64, 64), (200, 200)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


@pytest.fixture(scope="session")
def mixed_pictures(pictures: list[Image.Image]) -> list[Image.Image]:
    """RGB of several sizes, grey and palette."""
    return [*pictures, pictures[1].convert("L"), pictures[2].quantize(16)]


@pytest.fixture
def spoiled(pictures: list[Image.Image], tmp_path: Path) -> list[Path]:
    """Good images in rows 0, 2 and 6; the others are damaged in different ways."""
    paths = [tmp_path / f"{row}.jpg" for row in range(7)]
    for row in (0, 1, 2, 6):
        pictures[row % 5].save(paths[row])
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    paths[3].write_text("<html>404 not found</html>")
    paths[4].mkdir()
    return paths


@pytest.fixture
def in_shares(monkeypatch):
    """Run an encoding as three processes, each in a thread, and return the result of the second."""

    def run(encode):
        here, meeting, brought, alone = threading.local(), threading.Barrier(3, timeout=60), {}, threading.Lock()

        def exchange(items):
            brought[here.rank] = items
            alone.release()
            meeting.wait()
            everyones = [brought[rank] for rank in range(3)]
            meeting.wait()
            alone.acquire()
            return everyones

        def as_process(rank):
            here.rank = rank
            with alone:  # a model may be changed for the time of a call
                return encode()

        with monkeypatch.context() as patch, ThreadPoolExecutor(3) as pool:
            patch.setattr(processes, "count", lambda: 3)
            patch.setattr(processes, "rank", lambda: here.rank)
            patch.setattr(processes, "from_main", lambda value: exchange(value)[0])
            patch.setattr(processes, "gather", lambda items: sum(exchange(items), []))
            return list(pool.map(as_process, range(3)))[1]

    return run
