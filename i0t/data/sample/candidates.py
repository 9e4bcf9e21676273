"""Candidate captions of graded quality and their ratings. Constructed, not human.

A candidate is the image's own caption in other words, the same with an error, or the caption of
another image. Its correctness is computed from what it states. Simulated annotators turn that into
ratings with a little noise, in the two forms of Flickr8k: Expert (three annotators, 1..4 each) and
CrowdFlower (the share of three who say yes). They exist so that the correlation programs can run on
the sample; a result on them says nothing about people.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from i0t.data.sample.caption_text import SHORT_FORMS, Mention, shuffled
from i0t.data.sample.scenes import CELLS, COLOURS, SHAPES, SIZES, Object, Scene

OWN, SLIGHTLY_WRONG, BADLY_WRONG, OTHER = "own", "slightly wrong", "badly wrong", "other"
# Numbers of stated parts that are changed, and of objects that are left out. OTHER is true of another image.
_CHANGED = {OWN: 0, SLIGHTLY_WRONG: 1, BADLY_WRONG: 1, OTHER: 0}
_LEFT_OUT = {OWN: 0, SLIGHTLY_WRONG: 0, BADLY_WRONG: 1, OTHER: 0}
EXPERT_PLAN = (OWN, SLIGHTLY_WRONG, SLIGHTLY_WRONG, BADLY_WRONG, OTHER, OTHER)
CROWD_PLAN = (OWN, OWN, SLIGHTLY_WRONG, SLIGHTLY_WRONG, BADLY_WRONG, OTHER, OTHER, OTHER)

ANNOTATORS = 3
# Weight of each stated part of an object.
_WEIGHTS = {"colour": 3.0, "shape": 3.0, "cell": 2.0, "size": 1.0}
_VALUES: dict[str, tuple[str | int, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "cell": tuple(range(CELLS)),
    "size": tuple(SIZES),
}
# Correctness from which an expert gives 2, 3 and 4.
_EXPERT_STEPS = (0.45, 0.75, 0.97)
_EXPERT_NOISE = 0.15  # chance that an expert is one step off
_CROWD_NOISE = 0.05  # chance of a yes to the worst, or a no to the best
_PLACED_SHARE = 0.3  # of the candidates say where the objects are


@dataclass(frozen=True)
class Candidate:
    """A caption to rate, and what it states."""

    kind: str
    text: str
    mentions: tuple[Mention, ...]


def correctness(mentions: Sequence[Mention], scene: Scene) -> float:
    """Share of a caption that is true of the scene, 0..1.

    Each mention is paired with one object, in the way that is best for the caption, and gets the
    weighted share of its stated parts that are right. The sum is divided by the number of objects or
    of mentions, whichever is larger, so missing and invented objects both cost.
    """
    scores = np.zeros((max(len(mentions), len(scene.objects)),) * 2)
    for row, mention in enumerate(mentions):
        for column, item in enumerate(scene.objects):
            scores[row, column] = _share_right(mention, item)
    rows = range(len(scores))
    return max(float(scores[rows, order].sum()) for order in permutations(rows)) / len(scores)


def draw_candidate(kind: str, scene: Scene, rng: np.random.Generator) -> Candidate:
    """Write a candidate of a kind for a scene (for OTHER: the scene of the other image)."""
    placed = rng.random() < _PLACED_SHARE
    mentions = [replace(Mention.of(item), cell=item.cell if placed else None) for item in scene.objects]
    form = SHORT_FORMS[rng.integers(len(SHORT_FORMS))]
    stated = form.stated(shuffled(mentions, rng))[_LEFT_OUT[kind] :]
    stated = _with_changes(stated, _CHANGED[kind], rng)
    return Candidate(kind, form.write(stated), tuple(stated))


def draw_candidates(
    plan: Sequence[str],
    scene: Scene,
    others: Sequence[Scene],
    references: Collection[str],
    rng: np.random.Generator,
) -> list[Candidate]:
    """Draw different candidates for an image, none of them among its references."""
    sources = iter(others)
    taken = set(references)
    candidates = []
    for kind in plan:
        source = next(sources) if kind == OTHER else scene
        candidate = draw_candidate(kind, source, rng)
        while candidate.text in taken:
            candidate = draw_candidate(kind, source, rng)
        taken.add(candidate.text)
        candidates.append(candidate)
    return candidates


def expert_ratings(correct: float, rng: np.random.Generator) -> list[float]:
    """Three ratings 1..4, one per annotator, not averaged."""
    rating = 1 + sum(correct >= step for step in _EXPERT_STEPS)
    off = (rng.random(ANNOTATORS) < _EXPERT_NOISE) * rng.choice((-1, 1), size=ANNOTATORS)
    return [float(value) for value in np.clip(rating + off, 1, 4)]


def crowd_rating(correct: float, rng: np.random.Generator) -> float:
    """The share of three annotators who say that the caption fits: 0, 1/3, 2/3 or 1."""
    lowest, highest = _EXPERT_STEPS[0], _EXPERT_STEPS[-1]
    fits = min(max((correct - lowest) / (highest - lowest), 0.0), 1.0)
    yes = _CROWD_NOISE + (1 - 2 * _CROWD_NOISE) * fits
    return int((rng.random(ANNOTATORS) < yes).sum()) / ANNOTATORS


def expert_entries(candidates: Sequence[Candidate], scene: Scene, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The "human_judgement" list of flickr8k.json: three entries per candidate."""
    return [
        {"caption": candidate.text, "rating": rating}
        for candidate in candidates
        for rating in expert_ratings(correctness(candidate.mentions, scene), rng)
    ]


def crowd_entries(candidates: Sequence[Candidate], scene: Scene, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The "human_judgement" list of crowdflower_flickr8k.json: one entry per candidate."""
    return [
        {"caption": candidate.text, "rating": crowd_rating(correctness(candidate.mentions, scene), rng)}
        for candidate in candidates
    ]


def lose_rating(entries: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """Make one rating NaN, as a few are in the real files."""
    entries[rng.integers(len(entries))]["rating"] = math.nan


def _share_right(mention: Mention, item: Object) -> float:
    stated = _stated_parts(mention)
    right = sum(_WEIGHTS[part] for part in stated if getattr(mention, part) == getattr(item, part))
    return right / sum(_WEIGHTS[part] for part in stated)


def _stated_parts(mention: Mention) -> list[str]:
    return [part for part in _WEIGHTS if getattr(mention, part) is not None]


def _with_changes(mentions: list[Mention], count: int, rng: np.random.Generator) -> list[Mention]:
    """Change `count` different stated parts, each to another value."""
    mentions = list(mentions)
    parts = [(index, part) for index in range(len(mentions)) for part in _stated_parts(mentions[index])]
    for chosen in rng.permutation(len(parts))[:count].tolist():
        index, part = parts[chosen]
        options = [value for value in _VALUES[part] if value != getattr(mentions[index], part)]
        mentions[index] = replace(mentions[index], **{part: options[rng.integers(len(options))]})
    return mentions
