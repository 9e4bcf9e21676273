"""Which gap remover and which scores to use: all of them on held-out halves of a user's pairs, and one choice.

The choice is the best of many on the queries that also measure it. So the intervals of mixed search hold
for all candidates at once (`joint_level`), and the rival is the best of each resample (`differences`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from tqdm import tqdm

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics.resampling import random_split
from i0t.search.methods import Method, label_of, scores_of
from i0t.search.results import MethodResult, differences, joint_level, rivals_in
from i0t.search.rivals import RULES
from i0t.search.scores import FORMS, Form, ScoreStandardizer
from i0t.search.splits import SplitRuns, first_pairs
from i0t.standardize import GapRemover
from i0t.standardize.registry import NONE, RemoverChoice

PLAIN: Literal["cosine"] = "cosine"  # no form of scores
FILTERS = ("own_kind", "other_kind")


@dataclass(frozen=True)
class Candidate:
    """One remover with one form of scores."""

    choice: RemoverChoice = RemoverChoice(NONE)
    form: Form | Literal["cosine"] = PLAIN

    @property
    def name(self) -> str:
        """Name in results."""
        remover = "" if self.choice.name == NONE else self.choice.name
        return (remover or "raw") if self.form == PLAIN else scores_of(remover, self.form)

    @property
    def cost(self) -> int:
        """Order of what it costs at serving time: moved vectors 1, constants 2, two numbers per item 4."""
        return (self.choice.name != NONE) + 2 * (self.form == "constants") + 4 * (self.form == "adaptive")

    def fit(self, images: np.ndarray, texts: np.ndarray) -> Method:
        """Fit to unlabelled features."""
        remover: GapRemover | None = None if self.choice.name == NONE else self.choice.make()
        if self.form == PLAIN:
            return remover and remover.fit(images, texts)
        return ScoreStandardizer(remover, self.form).fit({"image": images, "text": texts})


@dataclass
class Advice:
    """Results of all candidates and rivals, and the choice.

    Attributes:
        candidates: by name.
        results: by name, rivals included.
        sizes: results of the candidates by number of calibration images.
        only_other: whether no relevant item is of the query's own kind.
        rivals: names of those that a choice must beat.
        choice: name of the candidate; None: nothing beats the rivals.
        reason: why.
    """

    candidates: Mapping[str, Candidate]
    results: dict[str, MethodResult]
    sizes: dict[int, dict[str, MethodResult]] = field(default_factory=dict)
    only_other: bool = False
    rivals: list[str] = field(default_factory=list)
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
    candidates = [Candidate(choice, form) for form in (PLAIN, *FORMS) for choice in choices]
    known = {candidate.name: candidate for candidate in candidates}
    sizes = [size for size in sizes if size < len(pairs) // 2]
    runs = {size: SplitRuns(embeddings, pair_metrics=not size) for size in (0, *sizes)}
    images, texts = embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]
    for split in tqdm(range(splits), desc="splits", disable=None if progress else True, leave=False):
        fitted_on, tested = random_split(len(pairs), np.random.default_rng([seed, split]))
        for size, run in runs.items():
            rows = fitted_on[: size or None]
            methods = {name: candidate.fit(images[rows], texts[rows]) for name, candidate in known.items()}
            rivals: dict[str, Method] = {} if size else {name: name for name in RULES}
            run.add({**rivals, **methods}, pairs[tested], [seed, split])
    advice = Advice(known, runs[0].results(), {size: runs[size].results() for size in sizes})
    _choose(advice)
    return advice


def _choose(advice: Advice) -> None:
    """Choose the best candidate, or a cheaper one that is not distinguishable from it."""
    results, means = advice.results, {name: result.mean()["ndcg"] for name, result in advice.results.items()}
    advice.only_other = bool(np.isnan(results["raw"].mean()["ndcg_own"]))
    advice.rivals = [name for name in rivals_in(results) if not (advice.only_other and name in FILTERS)]
    rival = label_of(max(advice.rivals, key=means.__getitem__))
    names = [name for name in advice.candidates if name != "raw"]
    level = joint_level(len(names))
    gains = differences(results, advice.rivals, "ndcg", level, resamples=10_000)
    of_candidates = {name: results[name] for name in ("raw", *names)}
    r1 = [differences(of_candidates, ["raw"], metric) for metric in ("i2t_r1", "t2i_r1")]
    better = [name for name in names if gains[name].low > 0]
    good = [name for name in better if all(found[name].high >= 0 for found in r1)]
    if not good:
        advice.reason = (
            f"{', '.join(map(label_of, better))} would rank better, at the cost of R@1."
            if better
            else f"no method certainly beats the best rival ({rival}) in mixed NDCG."
        )
        return
    best = max(good, key=means.__getitem__)
    behind = differences({name: results[name] for name in good}, [best], "ndcg", level, resamples=10_000)
    as_good = [name for name in good if name == best or behind[name].high >= 0]
    advice.choice = min(as_good, key=lambda name: (advice.candidates[name].cost, -means[name]))
    other = f" {label_of(best)}, {means[best]:.3f}, is not certainly better and costs more."
    advice.reason = (
        f"mixed NDCG {means[advice.choice]:.3f}, against the best rival ({rival}) {gains[advice.choice]}, an interval "
        f"that holds for all {len(names)} methods at once; R@1 against raw {r1[0][advice.choice]} to text, "
        f"{r1[1][advice.choice]} to image." + ("" if best == advice.choice else other)
    )
