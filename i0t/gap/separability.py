"""How well a linear model tells images from texts.

Arguments, shapes and errors of each are those of `modality_gap`.

Shapes: N images x, M texts y, P pairs of row numbers (image, text), D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from i0t.gap.items import NAN, checked_pairs, units

FOLDS = 5
RIDGE_PENALTY = 1.0


def linear_separability(image_features: Any, text_features: Any, seed: int = 0) -> float:
    """LS = 1 - MSE of a linear regression on image = 1, text = 0 (paper section 3; Fahim et al. 2024).

    Fitted on a random 70 % of all vectors, measured on the other 30 %: 1 is separable; no gap is
    about 0.75 if N = M, and near 1 if one modality is rare. Lower, without bound, where D is near
    the number of vectors or the means are those of the set itself; `separability_auc` is steadier.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[5, 0, 0]], [[-5, 0, 0]]]
        >>> round(linear_separability(images, texts), 2)
        1.0
    """
    _, errors = held_out_errors(*units(image_features, text_features), seed)
    return 1.0 - float(errors.mean()) if len(errors) else NAN


def separability_auc(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> float:
    """Cross-fitted AUC of a ridge classifier of image against text: 0.5 is no gap, 1 is separable.

    Below 0.5 the means leaked: centring on the evaluated set itself gives each held-out part the
    opposite offset of the part that was fitted. Mean over five folds; items linked by pairs share
    one, so that no caption is fitted while its image is tested. NaN with fewer than five linked
    groups, or no fold with both modalities.

    Example:
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 50, 3)) + [[[5, 0, 0]], [[-5, 0, 0]]]
        >>> separability_auc(images, texts)
        1.0
    """
    x, y = units(image_features, text_features)
    group = linked_groups(checked_pairs(pairs, len(x), len(y)), len(x), len(y))
    return mean_area(held_out_scores(x, y, group, seed), np.arange(len(x) + len(y)) < len(x))


def held_out_errors(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which vectors `linear_separability` holds out, (T,) rows of images and then texts, and their squared errors.

    Example:
        >>> rows, errors = held_out_errors(np.eye(6)[:3], np.eye(6)[3:], seed=0)
        >>> len(rows), len(errors)
        (2, 2)
    """
    from sklearn.linear_model import LinearRegression
    from threadpoolctl import threadpool_limits

    vectors, is_image = labelled(x, y)
    train, test = random_split(len(vectors), seed)
    if not len(train) or not len(test):
        return test[:0], np.empty(0)
    with threadpool_limits(1, "blas"):  # no slower, and 50 times faster where the cores are busy
        predicted = LinearRegression().fit(vectors[train], is_image[train]).predict(vectors[test])
    return test, (predicted - is_image[test]) ** 2


def held_out_scores(x: np.ndarray, y: np.ndarray, group: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and scores of each fold of `separability_auc`; `group` (N + M,) is each vector's; none with too few groups.

    Example:
        >>> scores = held_out_scores(np.eye(10)[:5], np.eye(10)[5:], np.tile(np.arange(5), 2), seed=0)
        >>> sorted(int(row) for rows, _ in scores for row in rows)
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    from sklearn.linear_model import Ridge
    from threadpoolctl import threadpool_limits

    if group.max() + 1 < FOLDS:
        return []
    fold = folds(group, seed)
    vectors, is_image = labelled(x, y)
    found = []
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(np.unique(is_image[train])) == 2:
            with threadpool_limits(1, "blas"):  # as in held_out_errors
                found.append(
                    (test, Ridge(alpha=RIDGE_PENALTY).fit(vectors[train], is_image[train]).predict(vectors[test]))
                )
    return found


def mean_area(scored: list[tuple[np.ndarray, np.ndarray]], is_image: np.ndarray) -> float:
    """Mean AUC of image against text over the folds that hold both; NaN if none does.

    Example:
        >>> mean_area([(np.array([0, 1, 2]), np.array([0.9, 0.2, 0.4]))], np.array([True, True, False]))
        0.5
    """
    from sklearn.metrics import roc_auc_score

    areas = [roc_auc_score(is_image[rows], scores) for rows, scores in scored if len(np.unique(is_image[rows])) == 2]
    return float(np.mean(areas)) if areas else NAN


def random_split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random 70 % and of the other 30 %.

    Example:
        >>> train, test = random_split(10, seed=0)
        >>> len(train), len(test), len({*train, *test})
        (7, 3, 10)
    """
    train, test = np.split(np.random.default_rng(seed).permutation(n), [round(0.7 * n)])
    return train, test


def folds(group: np.ndarray, seed: int) -> np.ndarray:
    """(V,) fold of each vector; those of one group share it.

    Example:
        >>> fold = folds(np.array([0, 1, 2, 0, 1, 2]), seed=0)
        >>> bool((fold[:3] == fold[3:]).all()), sorted(fold[:3].tolist())
        (True, [0, 1, 2])
    """
    return (np.random.default_rng(seed).permutation(int(group.max()) + 1) % FOLDS)[group]


def labelled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, D) images, then texts; and (V,) 1.0 for images, 0.0 for texts.

    Example:
        >>> vectors, is_image = labelled(np.eye(2), np.ones((1, 2)))
        >>> vectors.tolist(), is_image.tolist()
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 0.0])
    """
    return np.concatenate([x, y]), np.repeat([1.0, 0.0], [len(x), len(y)])


def linked_groups(pairs: np.ndarray, n_images: int, n_texts: int) -> np.ndarray:
    """(N + M,) number of the group of each image and text that pairs link, directly or not.

    Example:
        >>> linked_groups(np.array([[0, 0], [0, 1], [1, 2]]), n_images=2, n_texts=4).tolist()
        [0, 1, 0, 0, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = (np.ones(len(pairs)), (pairs[:, 0], n_images + pairs[:, 1]))
    size = n_images + n_texts
    return connected_components(coo_array(links, shape=(size, size)), directed=False)[1]
