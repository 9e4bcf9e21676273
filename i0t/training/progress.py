"""Progress of a run: the bar, TensorBoard, the signal that asks it to stop, and numbers read without waiting."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm


class ProgressLog:
    """Progress bar and TensorBoard scalars, on the main process alone.

    Args:
        folder: of the TensorBoard log.
        name: of the bar.
        first_step: steps done before.
        total_steps: of the run.
        batch_size: pairs a step.
        shown: whether this is the main process.
    """

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
        """Write values to TensorBoard."""
        for key, value in values.items() if self.writer else ():
            self.writer.add_scalar(f"{prefix}{key}", value, step)

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()


class StopSignal:
    """Within its block SIGTERM, a cluster's pre-emption, sets `received` instead of killing the process."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> StopSignal:
        self._before = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = True


class StepNumbers:
    """A step's numbers, read one step late.

    Reading a number waits until the GPU has computed it. Read after the next step was launched, that
    costs nothing.

    Args:
        step: its number, from 1.
        rate: its learning rate.
        values: scalars on the device.
    """

    def __init__(self, step: int, rate: float, values: dict[str, torch.Tensor]) -> None:
        self.step, self.rate, self._names = step, rate, list(values)
        self._values = torch.stack([value.detach().float() for value in values.values()])

    def read(self) -> dict[str, float]:
        """The numbers by name, the learning rate among them."""
        return {**dict(zip(self._names, self._values.tolist(), strict=True)), "learning_rate": self.rate}
