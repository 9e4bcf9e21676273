"""Separability fitted again and again with one block of groups left out: the block jackknife.

The error of a fitted classifier's score has two parts, the held-out vectors and the fitted ones. A
block of both is left out at a time, while splits and folds stay. No fit is made anew: the sums of
products of the block are taken off those of the whole.

Shapes: N images x, M texts y, V = N + M vectors, D dimensions, K blocks.
"""

from __future__ import annotations

import numpy as np

from i0t.gap.separability import FOLDS, RIDGE_PENALTY, labelled, random_split


def linear_separability_without(x: np.ndarray, y: np.ndarray, block: np.ndarray, seed: int) -> np.ndarray:
    """(K,) `linear_separability` without each block.

    Args:
        x: (N, D) unit vectors.
        y: (M, D) unit vectors.
        block: (N + M,) block of each vector, images first.
        seed: of the split.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[9, 0, 0]], [[-9, 0, 0]]]
        >>> linear_separability_without(images, texts, np.arange(100) % 2, seed=0).round(1).tolist()
        [1.0, 1.0]
    """
    vectors, is_image = labelled(x, y)
    train, test = random_split(len(vectors), seed)
    predicted = _predictions_without(vectors, is_image, train, test, block, penalty=0.0)
    errors = [np.mean((row - is_image[test])[block[test] != k] ** 2) for k, row in enumerate(predicted)]
    return 1 - np.array(errors)


def separability_auc_without(
    x: np.ndarray, y: np.ndarray, block: np.ndarray, fold: np.ndarray, n_blocks: int
) -> np.ndarray:
    """(K,) `separability_auc` without each block; `fold` (N + M,) is that of each vector.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[9, 0, 0]], [[-9, 0, 0]]]
        >>> separability_auc_without(images, texts, np.arange(100) % 2, np.arange(100) % 5, n_blocks=2).tolist()
        [1.0, 1.0]
    """
    from sklearn.metrics import roc_auc_score

    vectors, is_image = labelled(x, y)
    areas: list[list[float]] = [[] for _ in range(n_blocks)]
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        for k, scores in enumerate(_predictions_without(vectors, is_image, train, test, block, RIDGE_PENALTY)):
            kept = block[test] != k
            if len(np.unique(is_image[test][kept])) == 2:
                areas[k].append(roc_auc_score(is_image[test][kept], scores[kept]))
    return np.array([np.mean(of_block) if of_block else np.nan for of_block in areas])


def _predictions_without(
    vectors: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, block: np.ndarray, penalty: float
) -> np.ndarray:
    """(K, T) predictions for the test vectors by regressions (with intercept) that lack each block."""
    from threadpoolctl import threadpool_limits

    # A column of ones brings counts and means into the same sums.
    rows = np.concatenate([vectors, target[:, None], np.ones((len(vectors), 1))], axis=1)
    with threadpool_limits(1, "blas"):  # as in separability.py
        whole = rows[train].T @ rows[train]
        coefficients = []
        for k in range(int(block.max()) + 1):
            out = rows[train[block[train] == k]]
            sums = whole - out.T @ out
            mean = sums[-1, :-1] / sums[-1, -1]
            centred = sums[:-1, :-1] - np.outer(mean, mean) * sums[-1, -1]
            gram = centred[:-1, :-1] + penalty * np.eye(vectors.shape[1])
            # Without a penalty, fewer vectors than dimensions leave it singular: the shortest solution.
            slope = np.linalg.lstsq(gram, centred[:-1, -1], rcond=1e-10)[0] if not penalty else None
            slope = np.linalg.solve(gram, centred[:-1, -1]) if slope is None else slope
            coefficients.append(np.append(slope, mean[-1] - mean[:-1] @ slope))
        return np.array(coefficients) @ np.column_stack([vectors[test], np.ones(len(test))]).T
