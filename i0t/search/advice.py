"""Which gap remover and which scores to use: all of them on held-out halves of a user's pairs, and one choice.

Shapes: T tested images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics.resampling import random_split
from i0t.search.evaluate import SplitRuns, first_pairs
from i0t.search.methods import RULES, Method
from i0t.search.results import MethodResult, Totals, differences
from i0t.search.scores import FORMS, ScoreStandardizer
from i0t.standardize import GapRemover
from i0t.standardize.registry import NONE, RemoverChoice

PLAIN = "cosine"  # no form of scores
LEVEL = 0.99  # of the choice's intervals: a dozen methods compete
ALARMS = 0.01  # share of wrong pairs above the threshold of `kept`
FILTERS = ("own_kind", "other_kind")


@dataclass(frozen=True)
class Candidate:
    """One remover with one form of scores."""

    choice: RemoverChoice = RemoverChoice(NONE)
    form: str = PLAIN

    @property
    def name(self) -> str:
        """Name in results."""
        if self.choice.name == NONE:
            return "raw" if self.form == PLAIN else self.form
        return self.choice.name if self.form == PLAIN else f"{self.choice.name}+{self.form}"

    @property
    def cost(self) -> int:
        """Order of what it costs at serving time: moved vectors 1, constants 2, two numbers per item 4."""
        return (self.choice.name != NONE) + 2 * (self.form == "constants") + 4 * (self.form == "adaptive")

    def fit(self, images: np.ndarray, texts: np.ndarray) -> Method:
        """Fit to unlabelled features."""
        remover: GapRemover | None = None if self.choice.name == NONE else self.choice.make()
        if self.form == PLAIN:
            return remover and remover.fit(images, texts)
        form = next(known for known in FORMS if known == self.form)
        return ScoreStandardizer(remover, form).fit({"image": images, "text": texts})


@dataclass
class Advice:
    """Results of all candidates and rivals, and the choice.

    Attributes:
        candidates: by name.
        mixed: mixed search, rivals included.
        pairs: `i2t_r1`, `t2i_r1` and `kept`, of the candidates.
        sizes: number of calibration images to mixed NDCG by candidate.
        only_other: whether no relevant item is of the query's own kind.
        rival: the best rival.
        choice: name of the candidate; None: nothing beats the rival.
        reason: why.
    """

    candidates: Mapping[str, Candidate]
    mixed: dict[str, MethodResult]
    pairs: dict[str, MethodResult]
    sizes: dict[int, dict[str, float]] = field(default_factory=dict)
    only_other: bool = False
    rival: str = "raw"
    choice: str | None = None
    reason: str = ""


def advise(
    embeddings: Embeddings,
    removers: Sequence[RemoverChoice],
    splits: int = 10,
    sizes: Sequence[int] = (32, 100),
    seed: int = 0,
    progress: bool = False,
) -> Advice:
    """Try removers and forms of scores, fitted on random halves of the images, and choose one.

    Args:
        embeddings: pairs.
        removers: to try, besides none.
        splits: number of random halves.
        sizes: smaller numbers of calibration images to try, too.
        seed: of the halves.
        progress: show a progress bar.

    Raises:
        I0TError: fewer than 20 images with a text.
    """
    pairs = first_pairs(embeddings)
    if len(pairs) < 20:
        raise I0TError(f"advise: {len(pairs)} images with a text are too few; give a few hundred.")
    choices = [RemoverChoice(NONE), *removers]
    candidates = [Candidate(choice, form) for choice in choices for form in (PLAIN, *FORMS)]
    known = {candidate.name: candidate for candidate in candidates}
    sizes = [size for size in sizes if size < len(pairs) // 2]
    runs = {size: SplitRuns(embeddings) for size in (0, *sizes)}
    scored = _PairRuns(pairs[:, 0])
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        for size, run in runs.items():
            rows = fitted_on[: size or None]
            methods = {name: candidate.fit(images[rows], texts[rows]) for name, candidate in known.items()}
            rivals: dict[str, Method] = {} if size else {name: name for name in RULES}
            run.add({**rivals, **methods}, pairs[tested], [seed, split])
            if not size:
                scored.add(methods, images[tested], texts[tested], pairs[tested, 0])
    small = {size: {name: result.mean()["ndcg"] for name, result in runs[size].results().items()} for size in sizes}
    advice = Advice(known, runs[0].results(), scored.results(), small)
    _choose(advice)
    return advice


def _choose(advice: Advice) -> None:
    """Choose the best candidate, or a cheaper one that is not distinguishable from it."""
    mixed, means = advice.mixed, {name: result.mean()["ndcg"] for name, result in advice.mixed.items()}
    advice.only_other = bool(np.isnan(mixed["raw"].mean()["ndcg_own"]))
    rivals = [name for name in ("raw", *RULES) if not (advice.only_other and name in FILTERS)]
    advice.rival = max(rivals, key=means.__getitem__)
    names = [name for name in advice.candidates if name != "raw"]
    gains = dict(zip(names, differences([mixed[name] for name in names], mixed[advice.rival], "ndcg", LEVEL)))
    held = {name: _loses_nothing(advice.pairs[name], advice.pairs["raw"]) for name in names}
    good = [name for name in names if gains[name][0] > 0 and held[name]]
    if not good:
        better = [name for name in names if gains[name][0] > 0]
        advice.reason = (
            f"{', '.join(better)} would rank better, at the cost of R@1"
            if better
            else f"no method beats {advice.rival} in mixed NDCG by more than its {100 * LEVEL:g} % interval"
        )
        return
    best = max(good, key=means.__getitem__)
    ranges = differences([mixed[name] for name in good], mixed[best], "ndcg", LEVEL)
    as_good = [name for name, (_, high) in zip(good, ranges) if high >= 0]
    advice.choice = min(as_good, key=lambda name: (advice.candidates[name].cost, -means[name]))
    low, high = gains[advice.choice]
    gain = means[advice.choice] - means[advice.rival]
    advice.reason = (
        f"mixed NDCG {means[advice.choice]:.3f}, {gain:+.3f} ({low:+.3f} {high:+.3f}, {100 * LEVEL:g} %) against "
        f"{advice.rival}, the best rival, and R@1 not below raw"
        + (f"; {best}, {means[best]:.3f}, is not better for certain and costs more" if best != advice.choice else "")
    )


def _loses_nothing(result: MethodResult, raw: MethodResult) -> bool:
    """Whether R@1 is not below that of raw vectors for certain, in both directions."""
    return all(differences([result], raw, metric, LEVEL)[0][1] >= 0 for metric in ("i2t_r1", "t2i_r1"))


class _PairRuns:
    """R@1 among the tested pairs, and the matches above one threshold, of several splits."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._totals: dict[str, Totals] = {}
        self._splits: dict[str, list[dict[str, float]]] = {}

    def add(self, methods: Mapping[str, Method], images: np.ndarray, texts: np.ndarray, numbers: np.ndarray) -> None:
        """Add a split: features of T tested pairs, and the numbers of their images."""
        for name, method in methods.items():
            scores = _scores(method, images, texts)
            wrong = scores[~np.eye(len(scores), dtype=bool)]
            values = {
                "i2t_r1": _first(scores),
                "t2i_r1": _first(scores.T),
                "kept": (np.diag(scores) > np.quantile(wrong, 1 - ALARMS)).astype(float),
            }
            self._totals.setdefault(name, Totals(self._images)).add(values, numbers)
            self._splits.setdefault(name, []).append({key: float(of.mean()) for key, of in values.items()})

    def results(self) -> dict[str, MethodResult]:
        return {name: totals.result(self._splits[name], {}) for name, totals in self._totals.items()}


def _scores(method: Method, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(T, T) scores of all images with all texts."""
    if isinstance(method, ScoreStandardizer):
        return method.scores(images, "image", texts, "text")
    if isinstance(method, GapRemover):
        images, texts = method.transform_image(images), method.transform_text(texts)
    return images @ texts.T


def _first(scores: np.ndarray) -> np.ndarray:
    """(T,) chance that the match of each row is first, ties broken at random."""
    best = scores.max(axis=1)
    return (np.diag(scores) == best) / (scores == best[:, None]).sum(axis=1)
