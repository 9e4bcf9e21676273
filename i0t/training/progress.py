"""Progress of a run: progress bar, TensorBoard, and the signals that stop it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from i0t.errors import first_line
from i0t.paths import say

ONE_PRESS = 1.0  # seconds


class ProgressLog:
    """Progress bar and TensorBoard scalars below `folder`; nothing if not `shown` (on all but the main process)."""

    def __init__(
        self, folder: Path, name: str, first_step: int, total_steps: int, batch_size: int, shown: bool
    ) -> None:
        self.batch_size, self.writer, self.folder = batch_size, None, folder
        self.bar = tqdm(total=total_steps, initial=first_step, desc=name, unit="step", disable=not shown)
        if shown:
            from torch.utils.tensorboard import SummaryWriter

            with self._dispensable():
                # Drop what a killed run logged after the state that this run resumes from.
                self.writer = SummaryWriter(folder, purge_step=first_step + 1 if first_step else None)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Show and log the losses, learning rate, gradient norm and logit scale of a step."""
        pairs_a_second = (self.bar.format_dict["rate"] or 0) * self.batch_size
        self.bar.set_postfix(
            loss=f"{values['loss']:.3f}",
            lr=f"{values['learning_rate']:.1e}",
            images_s=f"{pairs_a_second:.0f}",
            refresh=False,
        )
        self.bar.update()
        self.scalars(step, {**values, **({"images_per_second": pairs_a_second} if pairs_a_second else {})})

    def scalars(self, step: int, values: dict[str, float], prefix: str = "") -> None:
        """Write values to TensorBoard, all as one event: each event wakes the writer's thread, which takes time."""
        if self.writer:
            from tensorboard.compat.proto.summary_pb2 import Summary

            scalars = [Summary.Value(tag=f"{prefix}{key}", simple_value=value) for key, value in values.items()]
            with self._dispensable():
                self.writer._get_file_writer().add_summary(Summary(value=scalars), step)

    @contextmanager
    def _dispensable(self) -> Iterator[None]:
        """Go on without the log if it cannot be written, e.g. on a full disk: the run does not need it."""
        try:
            yield
        except OSError as error:  # also of the writer's thread, at the next call
            self.writer = None
            say(f"{self.folder}: cannot be written ({first_line(error)}); this run goes on without TensorBoard's log.")

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        if self.writer:
            with self._dispensable():
                self.writer.close()


@contextmanager
def stop_signal() -> Iterator[SimpleNamespace]:
    """Catch SIGTERM (pre-emption on a cluster) and Ctrl-C inside the block.

    Instead of ending the process they set `received`, the signal or None. A second Ctrl-C ends it at once, unless it
    follows within `ONE_PRESS`: launchers pass on the one that the terminal has sent to all.
    """
    stop, first = SimpleNamespace(received=None), [0.0]

    def receive(number: int, _: Any) -> None:
        if stop.received is None:
            stop.received, first[0] = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() > first[0] + ONE_PRESS:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
