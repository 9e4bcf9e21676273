"""A mixed index whose relevant items are of either kind: the task, and metrics of each kind.

Run: python -m pytest tests/search/test_mixed_task.py
"""

from __future__ import annotations

import numpy as np
import pytest

from i0t.errors import I0TError
from i0t.metrics import metrics_by_kind
from i0t.search import MixedLayout, either_kind


def other_kind(layout: MixedLayout) -> np.ndarray:
    """Whether each relevant item is of the other modality than its query."""
    return layout.query_is_text[layout.judged[:, 0]] != layout.corpus_is_text[layout.judged[:, 1]]


def test_metrics_of_one_kind_leave_the_other_out_of_the_list():
    # A text asks; relevant are the texts 2 and 3 (grades 1, 2) and the image 0. Returned: 0, 1, 3, 2.
    judged, grades, is_text = [[0, 0], [0, 2], [0, 3]], [1, 1, 2], [False, False, True, True]
    metrics = metrics_by_kind([[0, 1, 3, 2]], [[0.9, 0.8, 0.7, 0.6]], judged, grades, is_text, [True], k=2)
    assert metrics["ndcg"][0] == pytest.approx(1 / (2 + 1 / np.log2(3)))
    # Without image 0 the list is 1, 3, 2: text 3 is second.
    assert metrics["ndcg_own"][0] == pytest.approx((2 / np.log2(3)) / (2 + 1 / np.log2(3)))
    assert (metrics["recall_own"][0], metrics["recall_other"][0]) == (0.5, 1.0)
    # Without the texts it is 0, 1; and for an image as the query, own and other change places.
    assert metrics["ndcg_other"][0] == 1.0
    turned = metrics_by_kind([[0, 1, 3, 2]], [[0.9, 0.8, 0.7, 0.6]], judged, grades, is_text, [False], k=2)
    assert turned["ndcg_own"] == metrics["ndcg_other"] and turned["recall_other"] == metrics["recall_own"]


def test_metrics_of_a_kind_that_is_not_relevant_are_unknown():
    metrics = metrics_by_kind(
        [[0, 1], [1, 0]], np.ones((2, 2)), [[0, 1], [1, 0]], [1, 1], [False, True], [False, False]
    )
    assert np.isnan(metrics["ndcg_own"]).tolist() == [True, False]
    assert np.isnan(metrics["recall_other"]).tolist() == [False, True]


def test_with_one_text_an_image_every_pair_asks_once_across_modalities():
    pairs = np.array([[2, 0], [0, 1], [3, 2], [1, 4]])
    layout = either_kind(pairs, n_images=5, seed=3)
    assert layout.corpus.tolist() == [2, 0, 5 + 2, 5 + 4]
    assert layout.queries.tolist() == [5 + 0, 5 + 1, 3, 1]
    assert layout.judged.tolist() == [[place, place] for place in range(4)] and layout.grades.tolist() == [1] * 4
    assert other_kind(layout).all()
    with pytest.raises(I0TError, match="two images"):
        either_kind(pairs[:1], n_images=5)


def test_either_kind_asks_for_both_kinds_and_never_for_the_item_itself():
    pairs = np.stack([np.repeat([4, 1, 0, 3, 2], 3), np.arange(15)], axis=1)
    layouts = [either_kind(pairs, n_images=5, seed=seed) for seed in range(20)]
    owner = np.append(np.arange(5), pairs[:, 0])
    for layout in layouts:
        assert layout.corpus[:2].tolist() == [4, 1] and layout.corpus_is_text.tolist() == [False] * 2 + [True] * 3
        assert len(layout.queries) == 2 + 3 * 2 and len(set(layout.queries) & set(layout.corpus)) == 0
        asked, found = layout.queries[layout.judged[:, 0]], layout.corpus[layout.judged[:, 1]]
        np.testing.assert_array_equal(owner[asked], owner[found])
        np.testing.assert_array_equal(owner[asked], layout.group_of_query)
        assert other_kind(layout).sum() == 5
    assert {int(layout.corpus[4]) - 5 for layout in layouts} == {12, 13, 14}  # any of the texts of image 2
