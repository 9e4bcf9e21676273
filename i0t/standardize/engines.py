"""Where the work on shards is done: in this process, in processes of this machine, or on a Dask cluster.

Results come in the order of the items, so that sums do not depend on where they were made, to the last bit.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from i0t.errors import I0TError, first_line
from i0t.features import Item, Result
from i0t.paths import say
from i0t.remote import EXTRA

Shared = TypeVar("Shared")
LOCAL = "local"  # in place of a scheduler's address: a cluster on this machine


@dataclass(frozen=True)
class Engine:
    """What does the work.

    Attributes:
        jobs: processes on this machine; one job runs in this process, with all threads.
        scheduler: instead, the address of a Dask scheduler, or "local" for a cluster of `jobs` workers here.
    """

    jobs: int = 1
    scheduler: str | None = None

    def each(
        self, work: Callable[[Shared, Item], Result], shared: Shared, items: list[Item], what: str
    ) -> Iterator[Result]:
        """Yield `work(shared, item)` of each item, in order, under a progress bar called `what`.

        Raises:
            I0TError: of `work`; a process or worker died at an item, which is named; no such cluster.
        """
        bar = partial(tqdm, total=len(items), desc=what, unit="shard", disable=None)
        if not items:
            return
        if self.scheduler:
            with cluster(self.scheduler, self.jobs) as client:
                yield from bar(_on_cluster(client, work, shared, items))
        elif min(self.jobs, len(items)) < 2:
            yield from bar(work(shared, item) for item in items)
        else:
            # Spawned: a fork would copy BLAS' threads in an undefined state.
            context = multiprocessing.get_context("spawn")
            threads = max(1, (os.cpu_count() or 1) // self.jobs)
            with ProcessPoolExecutor(min(self.jobs, len(items)), context, _start_process, (threads,)) as pool:
                yield from bar(_in_processes(pool, work, shared, items, self.jobs))


def _start_process(threads: int) -> None:
    # When stopped leave quietly, after removing what is half written; the main process says where the run stands.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(threads)


def _end_with_parent() -> None:
    """End this process if its parent is killed: it would wait for work forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def dask_setup(worker: Any) -> None:
    """Dask's hook for workers that a local cluster starts: they leave Ctrl-C to the main process, which stops them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_order(begun: deque[tuple[Any, Any]]) -> Iterator[Any]:
    """Yield results of (item, future); a pair is out of `begun`, and lets its result go, once it is yielded."""
    while begun:
        result = begun[0][1].result()
        begun.popleft()
        yield result


def _in_processes(
    pool: ProcessPoolExecutor, work: Callable[[Shared, Item], Result], shared: Shared, items: list[Item], jobs: int
) -> Iterator[Result]:
    """Yield results of a pool; an error cancels the items that have not started.

    Raises:
        I0TError: a process died; names the shards that it may have been at.
    """
    begun: deque[tuple[Item, Future[Result]]] = deque()
    try:
        begun.extend((item, pool.submit(work, shared, item)) for item in items)
        yield from _in_order(begun)
    except BrokenProcessPool:
        left = [item for item, future in begun if future.exception()]
        raise I0TError(
            f"a process died at one of {', '.join(map(_name, left[:jobs]))}; perhaps memory was short. Give fewer "
            "--jobs; if it is always the same shard, make or copy that one again."
        ) from None
    except BaseException:
        pool.shutdown(cancel_futures=True)  # without waiting, the end of `with` would take the cancelling back
        raise


@contextmanager
def cluster(scheduler: str, workers: int) -> Iterator[Any]:
    """Connect to a cluster; yield Dask's client.

    Raises:
        I0TError: Dask is not installed, or the cluster cannot be reached.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
        from distributed.comm.addressing import resolve_address
    except ImportError:
        raise I0TError(f"--scheduler {scheduler}: Dask's `distributed` is not installed. {EXTRA}.") from None
    for name in ("distributed", "distributed.client"):  # which would tell of each worker that is lost and replaced
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler == LOCAL:
        # No limit of memory: it counts a file's mapped pages, which the system can take back at any time.
        settings = {
            "threads_per_worker": 1,
            "memory_limit": 0,
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": "CRITICAL",
            "preload": __name__,
        }
        # Forked from a process that has only imported Dask: quicker to start, to stop and to replace than spawned ones.
        # Dask's limit for malloc would map each block of vectors anew, which takes two to five times as long.
        environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
        environment.pop("MALLOC_TRIM_THRESHOLD_", None)
        workers_by = {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.nanny.pre-spawn-environ": environment,
        }
        with (
            dask.config.set(workers_by),
            LocalCluster(n_workers=workers, **settings) as here,
            cluster(here.scheduler_address, 0) as client,
        ):
            yield client
        return
    try:
        resolve_address(scheduler)  # first: a client without an address waits for a minute at its end
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:  # ValueError: no address
        raise I0TError(
            f"--scheduler {scheduler}: no cluster answers ({first_line(error)}). Give the address that "
            f"`dask scheduler` prints, such as tcp://10.0.0.1:8786, or {LOCAL!r}."
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            say(f"{scheduler}: no worker yet; waiting for one")
        yield client


def _on_cluster(
    client: Any, work: Callable[[Shared, Item], Result], shared: Shared, items: list[Item]
) -> Iterator[Result]:
    """Yield results of workers; what a worker was at, or held, when it died is done again by another.

    Raises:
        I0TError: the workers lack i0t, died at the same shard again and again, or the connection was lost.
    """
    from distributed import KilledWorker

    # A task, not scattered: if the only worker that holds it dies, it is sent again.
    sent = client.submit(_itself, shared, pure=False)
    if error := sent.exception():
        reason = first_line(error).partition(". ")[0]
        raise I0TError(
            f"the cluster cannot load the work ({reason}). Its scheduler and workers need the i0t of this machine, and "
            "the package of your own remover."
        )
    begun = deque(zip(items, client.map(work, [sent] * len(items), items, pure=False)))
    try:
        yield from _in_order(begun)
    except KilledWorker:
        raise I0TError(
            f"workers died at {_name(begun[0][0])}, one after another; perhaps memory was short. Give workers "
            "more; if it is always the same shard, make or copy that one again."
        ) from None
    except CancelledError:
        raise I0TError(
            f"the connection to the scheduler was lost at {_name(begun[0][0])}. What was written stays, and "
            "the same command goes on."
        ) from None


def _itself(shared: Shared) -> Shared:
    return shared


def _name(item: Any) -> str:
    """Path of the shard of (modality, shard), or of that with its target."""
    work = item[0] if isinstance(item[0], tuple) else item
    return str(work[1].path)
