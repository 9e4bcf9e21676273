"""`RunningStandardizer`, which learns from the unlabelled stream that it is applied to (cf. paper section 8).

Shapes: D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from i0t.errors import I0TError
from i0t.features import Features, check_shape
from i0t.origin import Origin
from i0t.standardize.arithmetic import VectorSum
from i0t.standardize.remover import MODALITIES, GapRemover, Modality, Standardizer


class RunningStandardizer(Standardizer):
    """I0T_post whose means move from those of training to those of the stream as samples arrive.

    I0T_post needs many samples of the distribution it is used on, a limit that the paper names. Here
    mean = (1 - w) training mean + w stream mean, with the empirical-Bayes weight w = n / (n + kappa) after n
    stream vectors. The best value is kappa = V / d^2: the variance V of one vector over the squared shift d^2
    between the two distributions. Unit vectors have V = 1 - |mean|^2. The shift d^2 is estimated from the
    stream: the squared distance of the means minus V / n, its bias (the positive-part James-Stein
    estimator). It has a lower limit that depends on the size of the training sample, so that without a shift
    the two samples are pooled.

    Transforming does not learn: call `update` with the vectors that arrive.

    Args:
        kappa: number of stream vectors that weigh as much as training; None estimates it.

    Raises:
        I0TError: kappa is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> running = RunningStandardizer().fit(rng.normal(1, 1, (500, 8)), rng.normal(-1, 1, (500, 8)))
        >>> running = running.update(rng.normal(2, 1, (100, 8)), rng.normal(-1, 1, (100, 8)))
        >>> round(running.weight("image"), 2), round(running.weight("text"), 2)  # the images have shifted
        (0.96, 0.51)
    """

    name, label = "running", ""
    keeps_stream = True

    def __init__(self, kappa: float | None = None) -> None:
        super().__init__()
        if kappa is not None and not kappa > 0:
            raise I0TError(f"kappa: {kappa} is not a positive number of vectors.")
        self.kappa = kappa
        self._stream: dict[Modality, VectorSum] = {"image": VectorSum(), "text": VectorSum()}

    @classmethod
    def starting_from(cls, prior: GapRemover, kappa: float | None = None) -> RunningStandardizer:
        """Make one from the means of a fitted remover, e.g. `Standardizer.load(path)`."""
        running = cls(kappa)
        for modality, held in prior._sums.items():
            running._sums[modality] = VectorSum({"sum": prior.mean(modality) * held.count}, held.count)
        running.origin, running.items_ = prior.origin, dict(prior.items_)
        return running

    def fit(
        self, image_features: Features, text_features: Features, origin: Origin | Mapping[str, Any] | None = None
    ) -> RunningStandardizer:
        """Forget everything, the stream included, and learn the training means. See `GapRemover.fit`."""
        super().fit(image_features, text_features, origin)
        self._stream = {"image": VectorSum(), "text": VectorSum()}
        return self

    def update(
        self, image_features: Features | None = None, text_features: Features | None = None
    ) -> RunningStandardizer:
        """Learn from vectors of the stream, paired or not, of one or both modalities.

        Raises:
            I0TError: not fitted, other dimensions, or a bad row; then nothing is learned.
        """
        stream = dict(self._stream)
        for modality, features in zip(MODALITIES, (image_features, text_features), strict=True):
            if features is not None:
                check_shape(features, f"{modality}_features", len(self.learned(modality).mean))
                stream[modality] = stream[modality].plus(features, f"{modality}_features")
        self._stream = stream
        return self

    def merge(self, other: GapRemover) -> RunningStandardizer:
        """Merge the streams of two copies with the same training means.

        Raises:
            I0TError: another remover, or other training means.
        """
        merged = super().merge(other)
        assert isinstance(merged, RunningStandardizer) and isinstance(other, RunningStandardizer)
        for modality, held in self._sums.items():
            if not np.array_equal(self.learned(modality).mean, other.learned(modality).mean):
                raise I0TError(f"merge: the two started from other {modality} means. Start both from one file.")
            merged._sums[modality] = held  # one training set, not two
            merged._stream[modality] = self._stream[modality].merged(other._stream[modality])
        merged.origin, merged.items_ = self.origin, dict(self.items_)
        return merged

    def weight(self, modality: Modality) -> float:
        """Weight of the stream's mean, 0..1: n / (n + kappa)."""
        n = self._stream[modality].count
        return n / (n + self.kappa_(modality)) if n else 0.0

    def kappa_(self, modality: Modality) -> float:
        """The kappa in use: the constructor's, or V / d^2 as estimated from the stream so far."""
        if self.kappa is not None:
            return self.kappa
        prior, seen = self.learned(modality), self._stream[modality]
        n, n_training = seen.count, prior.count
        if n < 2:
            return float(n_training)  # one vector does not show a shift
        mean = seen.mean
        variance = (1 - mean @ mean) * n / (n - 1)
        if variance <= 0:
            return float(n_training)  # n copies of one vector: no variance to compare a shift with
        # A few vectors hardly show a shift: (1 - 1 / n) reduces their weight.
        shift = ((mean - prior.mean) @ (mean - prior.mean) - variance / n) * (1 - 1 / n)
        return float(variance / max(shift, variance / n_training))

    def mean(self, modality: Modality) -> np.ndarray:
        """(D,) weighted mean of training and stream. Raises as `GapRemover.mean`."""
        prior, seen = self.learned(modality).mean, self._stream[modality]
        if not seen.count:
            return prior
        weight = self.weight(modality)
        # Another order of operations would change the last bits of saved results.
        return (1 - weight) * prior + weight * seen.sums["sum"] / seen.count

    def _tensors(self, modality: Modality) -> dict[str, np.ndarray]:
        seen, learned = self._stream[modality], super()._tensors(modality)
        total = seen.sums.get("sum", np.zeros_like(learned["sum"]))
        return {**learned, "stream_sum": total, "stream_count": np.array([seen.count], dtype=np.int64)}

    def _restore(self, modality: Modality, tensors: Mapping[str, np.ndarray], count: int) -> None:
        super()._restore(modality, tensors, count)
        if "stream_sum" in tensors:  # else the file of another remover, with training means only
            seen = int(tensors["stream_count"][0])
            self._stream[modality] = VectorSum({"sum": tensors["stream_sum"]} if seen else None, seen)
