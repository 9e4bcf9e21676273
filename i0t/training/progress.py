"""Progress of a run: progress bar, TensorBoard, and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm


class ProgressLog:
    """Progress bar and TensorBoard scalars below `folder`; nothing if not `shown` (on all but the main process)."""

    def __init__(
        self, folder: Path, name: str, first_step: int, total_steps: int, batch_size: int, shown: bool
    ) -> None:
        self.batch_size, self.writer = batch_size, None
        self.bar = tqdm(total=total_steps, initial=first_step, desc=name, unit="step", disable=not shown)
        if shown:
            from torch.utils.tensorboard import SummaryWriter

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
            self.writer._get_file_writer().add_summary(Summary(value=scalars), step)

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()


@contextmanager
def stop_signal() -> Iterator[SimpleNamespace]:
    """Catch SIGTERM (pre-emption on a cluster) inside the block: it sets `received` instead of killing the process."""
    stop = SimpleNamespace(received=False)
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(stop, "received", True))
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
