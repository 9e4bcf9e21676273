"""All numbers of the report: one dictionary for the page and the figures.

Protocol: half of the linked groups give the means; the other half is tested, before and after I0T_post
with these means ("after"). The paper's protocol, means of the tested items themselves, is measured as
well and is called "leak".

Shapes: D dimensions, P pairs shown on the sphere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.gap.measures import measures_of
from i0t.gap.trust import dimensions_of
from i0t.gap.unit_pairs import UnitPairs
from i0t.report import DEFAULTS, ReportOptions
from i0t.report.calibration_curve import calibration_curve
from i0t.report.definitions import MEASURES
from i0t.report.mixed_search import mixed_search
from i0t.report.recall import recall_at_1
from i0t.report.sphere import facing, project
from i0t.report.splits import Groups, centred, groups_of, take

MOST_POINTS = 800  # per modality on the sphere: more would overlap, and UMAP would be slow
MOST_COSINES = 20_000  # per kind: then the bins are right to about 0.1 %
FEWEST_BINS, MOST_BINS = 16, 80
PEAKS = 3  # marked dimensions per modality, at most
PEAK_FACTOR = 5  # their |mean| is at least this many times the median |mean|
CARRIERS = 5  # dimensions whose share of CD² is named

Stages = Mapping[str, UnitPairs]


def measure(embeddings: Embeddings, options: ReportOptions = DEFAULTS, say: Any = lambda step: None) -> dict[str, Any]:
    """Compute all numbers of the report.

    Returns:
        Plain lists, floats (NaN if undefined) and strings.

    Raises:
        I0TError: too few items, or as `modality_gap`.
    """
    seed, groups = options.seed, Groups(embeddings)
    calibration, tested = groups.draw(len(groups.counted) // 2, np.random.default_rng(seed))
    versions = {"before": tested, "after": centred(tested, calibration), "leak": centred(tested, tested)}
    items = {name: unit_pairs(version) for name, version in {"all": embeddings, **versions}.items()}
    shown = {name: items[name] for name in ("before", "after")}
    say("measures")
    gaps = {name: measures_of(stage, seed) for name, stage in items.items()}
    say("retrieval")
    recall = _recall(embeddings, groups, versions, seed)
    say("calibration curve")
    curve = calibration_curve(groups, seed)
    say("mixed search")
    search = mixed_search(embeddings, seed)
    say("cosines")
    cosines = cosine_histograms(shown, seed)
    say(f"sphere ({options.projection})")
    return {
        "unit": groups.unit,
        "counts": _counts(embeddings, groups, tested),
        "severity": {name: gap["severity"] for name, gap in gaps.items()},
        "measures": {key: {name: gap[key] for name, gap in gaps.items()} for key in MEASURES},
        "recall": recall,
        "search": search,
        "cosines": cosines,
        "activations": activations(shown),
        "calibration": curve.record(),
        "sphere": sphere(tested, shown, options),
    }


def unit_pairs(embeddings: Embeddings) -> UnitPairs:
    """Check and normalise embeddings, for measures and figures."""
    return UnitPairs.of(embeddings.image_features, embeddings.text_features, embeddings.pairs)


def _recall(embeddings: Embeddings, groups: Groups, versions: dict[str, Embeddings], seed: int) -> dict[str, Any]:
    """R@1 in both directions, at every stage and for all items."""
    recall = recall_at_1(versions, groups_of(versions["before"])[0], seed)
    for direction, found in recall_at_1({"all": embeddings}, groups.of_image, seed).items():
        recall[direction].update(found)
    return recall


def _counts(embeddings: Embeddings, groups: Groups, tested: Embeddings) -> dict[str, int]:
    n_calibration = len(groups.counted) // 2
    return {
        "images": len(embeddings.image_features),
        "texts": len(embeddings.text_features),
        "pairs": len(embeddings.pairs),
        "dimensions": int(embeddings.text_features.shape[1]),
        "calibration": n_calibration,
        "tested": len(groups.counted) - n_calibration,
        "tested_images": len(tested.image_features),
        "tested_texts": len(tested.text_features),
    }


def cosine_histograms(stages: Stages, seed: int = 0) -> dict[str, Any]:
    """Cosines of matched, unmatched, image-image and text-text pairs (paper Fig. 5).

    Returns:
        "edges" of the bins, the same for all; and for each stage and kind the share of cosines per bin
        ("shares"), their "mean" and number ("count"); no entry for a kind without pairs.
    """
    found = {name: _cosines(stage, np.random.default_rng(seed)) for name, stage in stages.items()}
    everything = np.concatenate([values for kinds in found.values() for values in kinds.values()])
    low, high = float(everything.min()), float(everything.max())
    fewest = min(len(values) for kinds in found.values() for values in kinds.values() if len(values))
    bins = int(np.clip(4 * np.sqrt(fewest), FEWEST_BINS, MOST_BINS))
    edges = np.linspace(low, high if high > low else low + 1e-3, bins + 1)
    histograms: dict[str, Any] = {"edges": edges.tolist()}
    for name, kinds in found.items():
        histograms[name] = {
            kind: {
                "shares": (np.histogram(values, edges)[0] / len(values)).tolist(),
                "mean": float(values.mean()),
                "count": len(values),
            }
            for kind, values in kinds.items()
            if len(values)
        }
    return histograms


def _cosines(stage: UnitPairs, rng: np.random.Generator) -> dict[str, np.ndarray]:
    x, y, pairs = stage.x, stage.y, stage.pairs
    known = set(map(tuple, pairs.tolist()))
    if len(pairs):
        pairs = pairs[rng.choice(len(pairs), min(MOST_COSINES, len(pairs)), replace=False)]
    across, images, texts = (_random_pairs(len(a), len(b), rng) for a, b in ((x, y), (x, x), (y, y)))
    kinds = {
        "matched": (x, y, pairs),
        "unmatched": (x, y, across[[tuple(pair) not in known for pair in across.tolist()]]),
        "images": (x, x, images[images[:, 0] != images[:, 1]]),
        "texts": (y, y, texts[texts[:, 0] != texts[:, 1]]),
    }
    return {kind: np.einsum("pd,pd->p", a[rows[:, 0]], b[rows[:, 1]]) for kind, (a, b, rows) in kinds.items()}


def _random_pairs(n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """(K, 2) rows: all combinations if they are few, else a random sample."""
    if n * m <= MOST_COSINES:
        return np.stack(np.divmod(np.arange(n * m), m), axis=1)
    return np.stack([rng.integers(n, size=MOST_COSINES), rng.integers(m, size=MOST_COSINES)], axis=1)


def activations(stages: Stages) -> dict[str, Any]:
    """Mean activation per dimension and modality, and the dimensions with large means (paper Fig. 3).

    Returns:
        For each stage "image" and "text", (D,) means of unit vectors; "peaks", the dimensions with large
        means per modality, before; "carriers", those with the largest (image mean - text mean)^2 before,
        and "carried", their share of CD^2.
    """
    means = {
        name: tuple(side.mean(axis=0, dtype=np.float64) for side in (stage.x, stage.y))
        for name, stage in stages.items()
    }
    carriers = dimensions_of(stages["before"])[:CARRIERS]
    carried = sum(part.share for part in carriers)
    return {
        **{name: {"image": x.tolist(), "text": y.tolist()} for name, (x, y) in means.items()},
        "peaks": {side: _peaks(mean) for side, mean in zip(("image", "text"), means["before"])},
        "carriers": [part.dimension for part in carriers],
        "carried": carried if carried else float("nan"),
    }


def _peaks(mean: np.ndarray) -> list[int]:
    order = np.argsort(-np.abs(mean), kind="stable")[:PEAKS]
    return [int(dimension) for dimension in order if abs(mean[dimension]) >= PEAK_FACTOR * np.median(np.abs(mean))]


def sphere(embeddings: Embeddings, stages: Stages, options: ReportOptions) -> dict[str, Any]:
    """Project at most `MOST_POINTS` items per modality, the same at all stages, to the sphere.

    Returns:
        For each stage "image" and "text", flat x, y, z rounded to 3 decimals; "partner", the row of each
        shown text's image, or -1; "image_ids" and "texts".
    """
    images, texts = _shown(embeddings, np.random.default_rng(options.seed))
    part = take(embeddings, images, texts)
    owner = np.full(len(part.texts), -1)
    owner[part.pairs[:, 1]] = part.pairs[:, 0]
    is_image = np.arange(len(part.image_ids) + len(part.texts)) < len(part.image_ids)
    found: dict[str, Any] = {
        "projection": options.projection,
        "partner": owner.tolist(),
        "image_ids": [str(name)[:120] for name in part.image_ids],
        "texts": [text[:200] for text in part.texts],
    }
    for name, stage in stages.items():
        both = np.concatenate([stage.x[images], stage.y[texts]]).astype(np.float32)
        points = project(both, options.projection, seed=options.seed, neighbors=options.neighbors)
        rounded = np.round(facing(points, is_image), 3) + 0.0
        found[name] = {"image": rounded[is_image].ravel().tolist(), "text": rounded[~is_image].ravel().tolist()}
    return found


def _shown(embeddings: Embeddings, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose images and texts for the sphere: pairs of an image and a text if there are pairs, else any."""
    n_images, n_texts = len(embeddings.image_features), len(embeddings.text_features)
    images, texts = np.zeros(n_images, dtype=bool), np.zeros(n_texts, dtype=bool)
    if len(embeddings.pairs):
        image, text = embeddings.pairs.T
        _, first = np.unique(image, return_index=True)
        rows = rng.permutation(first)[:MOST_POINTS]
        images[image[rows]] = texts[text[rows]] = True
    else:
        images[rng.permutation(n_images)[:MOST_POINTS]] = True
        texts[rng.permutation(n_texts)[:MOST_POINTS]] = True
    return images, texts
