"""Blocks of rows in threads: NumPy leaves the interpreter's lock alone while it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[work(item) for item in items]` in as many threads as BLAS is allowed (OMP_NUM_THREADS).

    Each thread's own matrix products then run on one core, so that products and everything else that
    NumPy does share the cores evenly.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    blas = ThreadpoolController().select(user_api="blas")
    threads = max([library["num_threads"] for library in blas.info()], default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(work, items))


def row_slices(n_rows: int, step: int) -> list[slice]:
    """Slices of at most `step` rows that make up `n_rows`."""
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
