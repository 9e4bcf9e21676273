"""What the numbers of a gap can be trusted for, in words.

Shapes: G groups of linked items, D dimensions.
"""

from __future__ import annotations

from typing import Any

from i0t.gap.centroids import chance_of_less, group_differences, squared_distance, squared_distance_bounds
from i0t.gap.items import checked_pairs, units
from i0t.gap.separability import linked_groups, separability_auc

SUSPICIOUS = 0.001  # chance of means as close as these without their having been made so
FEW = 100  # groups below which the error of an error bar is large itself


def means_leak(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> bool:
    """Whether the means were taken from the evaluated set itself.

    Two signs must meet: a separability below 0.5, for which centring on the set itself is the known
    cause, though half of all sets without a gap show it by chance; and means closer than finite samples
    come by chance, once in 1 000 times. What re-normalising leaves of the gap does not shrink with
    more pairs, while chance does: above some ten thousand pairs a leak goes unseen.

    Args:
        image_features: as for `modality_gap`.
        text_features: as for `modality_gap`.
        pairs: as for `modality_gap`.
        seed: as for `modality_gap`.

    Example:
        >>> import numpy as np
        >>> from i0t import Standardizer
        >>> images, texts = np.random.default_rng(0).normal(size=(2, 200, 32)) + [[[1] * 32], [[-1] * 32]]
        >>> centred = Standardizer().fit(images, texts)
        >>> means_leak(images, texts), means_leak(centred.transform_image(images), centred.transform_text(texts))
        (False, True)
    """
    x, y = units(image_features, text_features)
    matched = checked_pairs(pairs, len(x), len(y))
    differences = group_differences(x, y, linked_groups(matched, len(x), len(y)))
    if squared_distance(differences) >= 0:  # at least as far as chance has it
        return False
    return chance_of_less(differences, seed) <= SUSPICIOUS and separability_auc(x, y, matched, seed) < 0.5


def trust_lines(image_features: Any, text_features: Any, pairs: Any = None, seed: int = 0) -> list[str]:
    """One line for each reason to doubt a gap; none where there is none.

    Args:
        image_features: as for `modality_gap`.
        text_features: as for `modality_gap`.
        pairs: as for `modality_gap`.
        seed: as for `modality_gap`.

    Example:
        >>> import numpy as np
        >>> trust_lines(*np.random.default_rng(0).normal(size=(2, 50, 8)))[0]
        'too few pairs to tell this from zero: 50 pairs, and the interval of the centroid distance reaches 0'
    """
    x, y = units(image_features, text_features)
    matched = checked_pairs(pairs, len(x), len(y))
    group = linked_groups(matched, len(x), len(y))
    n_groups, what = int(group.max()) + 1, "pairs" if len(matched) else "items"
    if n_groups < 5:
        return [f"too few {what} to tell this from zero: {n_groups}, and no error can be estimated"]
    lines = []
    if means_leak(x, y, matched, seed):
        lines.append("separability below 0.5: the means come from the evaluated set; its gap says nothing of new data")
    elif squared_distance_bounds(group_differences(x, y, group), 1.96)[0] == 0:
        lines.append(
            f"too few {what} to tell this from zero: {n_groups} {what}, and the interval of the centroid distance "
            "reaches 0"
        )
    if n_groups < FEW:
        lines.append(f"rough: error bars from fewer than {FEW} {what} are themselves uncertain")
    if not len(matched):
        lines.append("no pairs are known: alignment and relative modality gap cannot be measured")
    return lines
