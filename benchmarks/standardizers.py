"""Effect of each standardiser on real embeddings that it was not fitted to.

    python -m benchmarks.standardizers

First table: fitted to 250 of 500 COCO pairs with CLIP ViT-B/16, tested on the other 250. AUC compares the cosine of
an image and its caption with that of two different images: raw, almost every other image is closer. Second table:
centroid distance of I0T_post with training means, with means of the first n samples, and with both
(`RunningStandardizer`). Training and stream have different content: k-means makes five clusters of the pairs, each
in turn is the training set, and stream and test are drawn from the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tabulate import tabulate

from i0t import RunningStandardizer, Standardizer, Whitening, ZScore
from i0t.cli import Parser, positive, program
from i0t.features import l2_normalize
from i0t.gap import centroid_distance
from i0t.metrics import one_scale_auc, retrieval_metrics
from i0t.paths import REPO
from i0t.standardize import GapRemover

FILE = "shared/realdata/coco500_clip_vitb16.npy"
CLUSTERS = 5
METHODS = {
    "i0t_post": Standardizer,
    "z_score": ZScore,
    "whitening": Whitening,
    "whitening, OAS": partial(Whitening, None),
}
Pair = tuple[np.ndarray, np.ndarray]


def real_features(start: Path) -> Pair:
    """Read images and texts (500, 512) from the nearest folder above `start` that has them.

    Raises:
        FileNotFoundError: no folder has them.
    """
    for folder in start.resolve().parents:
        if (folder / FILE).is_file():
            images, texts = np.load(folder / FILE).astype(np.float64)
            return l2_normalize(images), l2_normalize(texts)
    raise FileNotFoundError(FILE)


def split_rows(features: Pair, n_splits: int, methods: Iterable[str] = METHODS) -> list[dict[str, dict[str, float]]]:
    """Measure `cd`, `i2t_r1`, `t2i_r1`, `auc` by method, per split."""
    images, texts = features
    found = []
    for seed in range(n_splits):
        fit, test = np.split(np.random.default_rng(seed).permutation(len(images)), 2)
        moved = {"raw": (images[test], texts[test])}
        for name in methods:
            remover = METHODS[name]()
            remover.fit(images[fit], texts[fit])
            moved[name] = remover.transform_image(images[test]), remover.transform_text(texts[test])
        found.append({name: _measured(*both) for name, both in moved.items()})
    return found


def _measured(images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    recalls = retrieval_metrics(images, texts, np.arange(len(texts)), ks=(1,))
    kept = {key: recalls[key] for key in ("i2t_r1", "t2i_r1")}
    return {"cd": centroid_distance(images, texts), **kept, "auc": one_scale_auc(images, texts)["above_picture"]}


def stream_rows(features: Pair, counts: tuple[int, ...], n_splits: int) -> list[dict[int, tuple[float, ...]]]:
    """Centroid distance by training, samples and both, by number of samples, per cluster and split."""
    from sklearn.cluster import KMeans

    images, texts = features
    centred = [l2_normalize(side - side.mean(axis=0)) for side in features]
    cluster = KMeans(CLUSTERS, n_init=10, random_state=0).fit_predict(np.concatenate(centred, axis=1))
    found = []
    for number in range(CLUSTERS):
        prior = Standardizer().fit(images[cluster == number], texts[cluster == number])
        for seed in range(n_splits):
            order = np.random.default_rng(seed).permutation(np.flatnonzero(cluster != number))
            stream, test = order[: max(counts)], order[max(counts) :]
            one = {}
            for n in counts:
                running = RunningStandardizer.starting_from(prior)
                alone = None
                if n:
                    running.update(images[stream[:n]], texts[stream[:n]])
                    alone = Standardizer().fit(images[stream[:n]], texts[stream[:n]])
                one[n] = tuple(_distance(remover, images[test], texts[test]) for remover in (prior, alone, running))
            found.append(one)
    return found


def _distance(remover: GapRemover | None, images: np.ndarray, texts: np.ndarray) -> float:
    if remover is None:  # no sample yet
        return centroid_distance(images, texts)
    return centroid_distance(remover.transform_image(images), remover.transform_text(texts))


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables, as mean and standard error of the mean over splits."""
    parser = Parser(prog="python -m benchmarks.standardizers", description=__doc__)
    parser.add_argument("--splits", type=positive, default=20, help="random halves (default 20)")
    arguments = parser.parse_args(argv)
    features = real_features(REPO / "here")
    found = split_rows(features, arguments.splits)
    names, keys = list(found[0]), list(found[0]["raw"])
    table = [[name, *(_mean([row[name][key] for row in found]) for key in keys)] for name in names]
    print(tabulate(table, headers=["", "CD", "I2T R@1", "T2I R@1", "AUC"], disable_numparse=True))
    counts = (0, 1, 2, 8, 32, 128, 256)
    streams = stream_rows(features, counts, arguments.splits)
    table = []
    for n in counts:
        values = np.array([row[n] for row in streams])
        ahead = values[:, :2].min(axis=1) - values[:, 2]
        table.append([n, *(_mean(values[:, column]) for column in range(3)), _mean(ahead)])
    headers = ["samples", "CD, training", "CD, samples", "CD, both", "both ahead of the better"]
    print("\n" + tabulate(table, headers=headers, disable_numparse=True))
    return 0


def _mean(values: list[float] | np.ndarray) -> str:
    return f"{np.mean(values):.4f} ({np.std(values, ddof=1) / np.sqrt(len(values)):.4f})"


if __name__ == "__main__":
    sys.exit(main())
