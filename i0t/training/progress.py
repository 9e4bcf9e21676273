"""Progress of a run: the bar, TensorBoard, and the signal that asks it to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm


class ProgressLog:
    """Progress bar and TensorBoard scalars below `folder`; nothing where not `shown`: on all but the main process."""

    def __init__(
        self, folder: Path, name: str, first_step: int, total_steps: int, batch_size: int, shown: bool
    ) -> None:
        self.batch_size, self.writer = batch_size, None
        self.bar = tqdm(total=total_steps, initial=first_step, desc=name, unit="step", disable=not shown)
        if shown:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run logged beyond the state that this one goes on from is dropped.
            self.writer = SummaryWriter(folder, purge_step=first_step + 1 if first_step else None)

    def step(self, step: int, values: dict[str, float]) -> None:
        """One step's losses, learning rate, gradient norm and logit scale."""
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
            self.writer._get_file_writer().add_summary(Summary(value=scalars), step)

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()


@contextmanager
def stop_signal() -> Iterator[SimpleNamespace]:
    """Within its block SIGTERM, a cluster's pre-emption, sets `received` instead of killing the process."""
    stop = SimpleNamespace(received=False)
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(stop, "received", True))
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
