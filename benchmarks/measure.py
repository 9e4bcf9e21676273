"""Measuring: alternating rounds, and the memory of a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from i0t.results.record import peak_memory_bytes

DIM = 512


def alternate(ours: Callable[[], Any], rival: Callable[[], Any], rounds: int) -> tuple[float, float, list[float]]:
    """Run both in turn; return median seconds of ours and of the rival, and ours / rival per round."""
    seconds = [(_seconds(ours), _seconds(rival)) for _ in range(rounds)]
    return (
        median(pair[0] for pair in seconds),
        median(pair[1] for pair in seconds),
        [pair[0] / pair[1] for pair in seconds],
    )


def spread(ratios: list[float]) -> str:
    """Lowest and highest ratio of the rounds."""
    return f"{len(ratios)} rounds, {min(ratios):.2f}-{max(ratios):.2f}"


def peak_growth(work: Callable[[], Any]) -> int:
    """Bytes by which `work` raises the peak memory of this process; needs a process without earlier large work."""
    before = peak_memory_bytes()
    work()
    return peak_memory_bytes() - before


def in_fresh_process(module: str, *arguments: object) -> Any:
    """Run `python -m module arguments`, and parse the last line of its output as JSON."""
    # Waiting threads must sleep: spinning threads slow down others on shared cores.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def unit_vectors(n: int, seed: int) -> np.ndarray:
    """(n, 512) float32, made in blocks so that no copy raises the peak memory."""
    rng = np.random.default_rng(seed)
    made = np.empty((n, DIM), dtype=np.float32)
    for start in range(0, n, 4096):
        block = rng.standard_normal((min(4096, n - start), DIM), dtype=np.float32)
        made[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return made


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
