"""One list of two kinds: rivals by hand, standardised scores against brute force, metrics against ir_measures.

Run: python -m pytest tests/search/test_search_methods.py
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import metrics_by_kind, ranked_search_metrics
from i0t.paths import REPO
from i0t.search import (
    MethodResult,
    MixedIndex,
    MixedLayout,
    MixedTask,
    ScoreStandardizer,
    all_methods,
    either_kind,
    evaluate_layout,
    evaluate_splits,
    extreme_scales,
    offset_items,
    offset_queries,
    search_kinds,
)
from i0t.search.lists import first_of
from i0t.search.results import all_intervals, best_rival, differences, intervals, rivals_in
from i0t.search.rivals import RULES
from i0t.search.score_arithmetic import standardized

REAL = REPO.parent / "shared" / "realdata" / "coco500_clip_vitb16.npy"
FORMS = ("constants", "adaptive")


def gapped(n_images: int, texts_each: int = 1, dim: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, and texts that agree with them, each kind in a cone of its own and of its own width."""
    rng = np.random.default_rng(seed)
    common, gap = rng.normal(size=(n_images, dim)), 5 * np.eye(dim)[:2]
    images = common + 0.4 * rng.normal(size=common.shape) + gap[0]
    texts = np.repeat(common, texts_each, axis=0)
    texts = 0.6 * (texts + 0.4 * rng.normal(size=texts.shape)) + gap[1]
    return images.astype("float32"), texts.astype("float32")


def embeddings_of(n_images: int, texts_each: int, **how: int) -> Embeddings:
    images, texts = gapped(n_images, texts_each, **how)
    owners = np.repeat(np.arange(n_images), texts_each)
    return Embeddings(images, texts, owners, [str(row) for row in range(n_images)], [""] * len(texts))


# --- rivals -----------------------------------------------------------------------------------


@pytest.fixture
def small_task() -> MixedTask:
    """One text asks. Images 0-2 have cosines .3 .2 .1, texts 1-3 (corpus places 3-5) .9 .8 .7."""

    def at(cosine: float) -> list[float]:
        return [cosine, np.sqrt(1 - cosine**2)]

    images = np.array([at(value) for value in (0.3, 0.2, 0.1)])
    texts = np.array([at(1.0), *(at(value) for value in (0.9, 0.8, 0.7))])
    layout = either_kind(np.array([[0, 0], [1, 1]]), 3)
    layout = type(layout)(3, np.array([0, 1, 2, 4, 5, 6]), np.array([3]), np.array([[0, 1]]), np.ones(1))
    return MixedTask(images, texts, layout)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, [[3], [4], [5], [0], [1], [2]]),
        ("own_kind", [[3], [4], [5]]),
        ("other_kind", [[0], [1], [2]]),
        ("rank_fusion", [[0, 3], [1, 4], [2, 5]]),  # sets are ties
        ("min_max", [[0, 3], [1, 4], [2, 5]]),  # each list from 1 to 0
        ("dbsf", [[0, 3], [1, 4], [2, 5]]),
        ("quotas", [[3], [4], [0], [1], [5], [2]]),  # for k = 4
    ],
)
def test_rivals_rank_as_their_rule_says(small_task, rule, expected):
    places, scores = small_task.rank(rule, depth=6, k=4)
    scores = scores.round(6)
    tied = [sorted(places[0][scores[0] == value].tolist()) for value in sorted(set(scores[0]), reverse=True)]
    assert [group for group in tied if group[0] >= 0] == expected
    assert np.isneginf(scores[0][places[0] < 0]).all()


def test_a_quota_of_an_odd_number_leaves_the_middle_to_the_own_kind(small_task):
    places, _ = small_task.rank("quotas", depth=6, k=3)
    assert places[0, :3].tolist() == [3, 4, 0]


def test_score_fusions_by_hand():
    """Mean .5 and deviation .2, so .5 + (x - .5) / 1.2; one item, or equal ones, say nothing of their spread."""
    scores = np.array([[0.7, 0.5, 0.3], [0.4, 0.4, -np.inf], [0.4, -np.inf, -np.inf]])
    missing = -np.inf
    by_distribution = [[2 / 3, 0.5, 1 / 3], [0.5, 0.5, missing], [0.5, missing, missing]]
    np.testing.assert_allclose(RULES["dbsf"](scores, True, 10), by_distribution)
    by_ends = [[1, 0.5, 0], [0.5, 0.5, missing], [0.5, missing, missing]]
    np.testing.assert_allclose(RULES["min_max"](scores, True, 10), by_ends, atol=1e-12)


def test_distribution_fusion_is_that_of_qdrant():
    fusion = pytest.importorskip("qdrant_client.hybrid.fusion")
    from qdrant_client.models import ScoredPoint

    rng = np.random.default_rng(0)
    lists = [-np.sort(-rng.uniform(*ends, size=(1, 100))) for ends in ((0.1, 0.4), (0.5, 0.9))]
    points = [
        [ScoredPoint(id=1000 * of + row, version=0, score=score) for row, score in enumerate(scores[0])]
        for of, scores in enumerate(lists)
    ]
    expected = fusion.distribution_based_score_fusion(points, limit=20)
    ours = np.concatenate([RULES["dbsf"](scores, True, 10)[0] for scores in lists])
    best = np.argsort(-ours)[:20]
    assert [1000 * (row // 100) + row % 100 for row in best] == [point.id for point in expected]
    np.testing.assert_allclose(ours[best], [point.score for point in expected])


# --- standardised scores ----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_merged_lists_are_those_of_all_scores(form):
    images, texts = gapped(60, 2)
    fitted = ScoreStandardizer(form=form).fit(dict(zip(("image", "text"), gapped(80, seed=1))))
    layout = either_kind(np.stack([np.repeat(np.arange(60), 2), np.arange(120)], axis=1), 60)
    task = MixedTask(images, texts, layout)
    places, scores = task.rank(fitted, depth=12, k=10)
    for row, query in enumerate(layout.queries):
        kind = "text" if layout.query_is_text[row] else "image"
        vector = (texts[query - 60] if kind == "text" else images[query])[None]
        expected = np.empty(len(layout.corpus))
        for item_kind, of_kind in (("image", ~layout.corpus_is_text), ("text", layout.corpus_is_text)):
            items = task.vectors(layout.corpus[of_kind], item_kind)
            expected[of_kind] = fitted.scores(vector, kind, items, item_kind)[0]
        np.testing.assert_allclose(scores[row, :12], -np.sort(-expected)[:12], rtol=1e-4, atol=1e-4)
        assert set(places[row, :5]) == set(np.argsort(-expected)[:5])


@pytest.mark.parametrize("most", [50, 1000])
def test_the_adaptive_form_asks_until_no_other_item_can_be_in_the_top(most):
    """The items nearest to the query are near to everything, so the best ones lie deep."""
    rng = np.random.default_rng(0)
    cohorts = dict(zip(("image", "text"), gapped(100, seed=1)))
    fitted = ScoreStandardizer().fit(cohorts)
    queries = gapped(3, seed=2)[1]
    hubs = fitted.vectors(cohorts["text"], "text").mean(axis=0) + 0.02 * rng.normal(size=(200, 24))
    items = {"image": gapped(300, seed=3)[0], "text": np.concatenate([hubs, gapped(300, seed=4)[1]]).astype("float32")}
    indexed = MixedIndex(fitted, items, "Flat")  # any string of faiss: re-ranked
    limits = {kind: extreme_scales(indexed.scales(kind, "text")) for kind in items}
    stores = {kind: indexed._store(kind, "text") for kind in items}
    found = search_kinds(fitted, queries, "text", stores, k=10, limits=limits, most=most)
    if most == 50:
        assert found.exact is False and found.depth == 50
        return
    assert found.exact and found.depth > 40
    everything = np.hstack([fitted.scores(queries, "text", vectors, kind) for kind, vectors in items.items()])
    for result in (found, MixedIndex(fitted, items).search(queries, "text"), indexed.search(queries, "text")):
        np.testing.assert_allclose(result.scores[:, :10], -np.sort(-everything, axis=1)[:, :10], rtol=1e-4, atol=1e-4)
        place = np.where(result.kinds == 0, result.ids, 300 + result.ids)
        np.testing.assert_array_equal(place[:, :5], np.argsort(-everything, axis=1)[:, :5])


def test_ties_of_copies_come_back_together():
    """Copies of an item have one score, in any form, so that a collapsed corpus ranks as chance."""
    images, texts = (np.repeat(side, 25, axis=0) for side in gapped(2, seed=1))
    for form in FORMS:
        fitted = ScoreStandardizer(form=form).fit(dict(zip(("image", "text"), gapped(50))))
        found = MixedIndex(fitted, {"image": images, "text": texts}).search(texts[:1], "text", k=3)
        sizes = np.unique(found.scores[np.isfinite(found.scores)], return_counts=True)[1]
        assert set(sizes) == {25}


def test_a_list_ends_with_its_kth_item_and_what_ties_with_it():
    """Below the top k, items of a kind that was not asked deeply enough would be missing."""
    kinds = np.array([[0, 1, 1, 0], [1, 0, 0, 1]])
    ids = np.array([[7, 8, 9, 6], [1, 2, 3, 4]])
    scores = np.array([[5.0, 4.0, 4.0, 1.0], [3.0, 2.0, -np.inf, -np.inf]])
    found = first_of((kinds, ids, scores), 2)
    assert found[1].tolist() == [[7, 8, 9], [1, 2, -1]]
    assert found[2].tolist() == [[5.0, 4.0, 4.0], [3.0, 2.0, -np.inf]]
    assert first_of((kinds, ids.astype(str), scores), 2)[1].tolist() == [["7", "8", "9"], ["1", "2", None]]
    for form in FORMS:
        fitted = ScoreStandardizer(form=form).fit(dict(zip(("image", "text"), gapped(50))))
        items = dict(zip(("image", "text"), gapped(80, seed=2)))
        for index in ("flat", "Flat"):
            found_list = MixedIndex(fitted, items, index).search(gapped(9, seed=3)[1], "text", k=4)
            assert found_list.ids.shape == found_list.scores.shape == (9, 4)


def test_a_few_extreme_scales_bound_all_items():
    rng = np.random.default_rng(0)
    scales = np.stack([rng.normal(0.2, 0.05, 5000), rng.uniform(0.01, 0.1, 5000)], axis=1)
    extreme, cosines = extreme_scales(scales), np.linspace(-1, 1, 101)[:, None]
    query = np.tile([0.2, 0.05], (101, 1))
    assert len(extreme) < 60
    np.testing.assert_allclose(
        standardized(cosines, query, extreme).max(axis=1), standardized(cosines, query, scales).max(axis=1)
    )
    np.testing.assert_array_equal(extreme_scales(np.tile([0.1, 0.2], (9, 1))), [[0.1, 0.2]])


@pytest.mark.parametrize(("query_kind", "kind"), [*product(("image", "text"), repeat=2)])
def test_one_more_dimension_gives_the_scores_as_inner_products(query_kind, kind):
    cohorts = dict(zip(("image", "text"), gapped(80, seed=1)))
    fitted = ScoreStandardizer(form="constants").fit(cohorts)
    queries, items = gapped(7, seed=5)[query_kind == "text"], gapped(40, seed=6)[kind == "text"]
    products = offset_queries(fitted, queries, query_kind) @ offset_items(fitted, items, kind, query_kind).T
    np.testing.assert_allclose(products, fitted.scores(queries, query_kind, items, kind), rtol=1e-5, atol=1e-5)
    with pytest.raises(I0TError, match="needs form 'constants'"):
        offset_items(ScoreStandardizer().fit(cohorts), items, kind, query_kind)


# --- the benchmark ----------------------------------------------------------------------------


def test_with_several_texts_an_image_both_kinds_are_judged_and_filters_find_only_one():
    results = evaluate_splits(embeddings_of(120, 3), lambda x, y: all_methods({}, x, y), splits=3)
    means = {name: result.mean() for name, result in results.items()}
    assert means["own_kind"]["ndcg_other"] == means["other_kind"]["ndcg_own"] == 0
    assert means["raw"]["ndcg_own"] > 0.9 and means["raw"]["ndcg_other"] < 0.1
    for form in FORMS:
        assert means[form]["ndcg_own"] > 0.9 and means[form]["ndcg_other"] > 0.65
        assert means[form]["ndcg"] == pytest.approx(
            (means[form]["ndcg_own"] + 2 * means[form]["ndcg_other"]) / 3, abs=0.01
        )
    held = list(results.values())
    for result, (low, high) in zip(held, intervals(held, "ndcg")):
        assert low <= result.mean()["ndcg"] + 0.01 and result.mean()["ndcg"] - 0.01 <= high
    assert best_rival(results) == "dbsf"
    assert differences(results, rivals_in(results), "ndcg")["adaptive"].low > 0
    assert means["raw"]["relevant_text_share_text_queries"] == pytest.approx(0.5)
    assert means["raw"]["relevant_text_share_image_queries"] == 1.0


def test_differences_are_paired():
    results = evaluate_splits(embeddings_of(60, 2), lambda x, y: {"raw": None, "again": None}, splits=2)
    assert differences(results, ["raw"], "ndcg") == {"again": (0.0, 0.0, 0.0)}  # and raw has no rival


def test_the_interval_against_several_rivals_is_that_against_the_best_of_each_resample():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(mean, 0.3, 60) for name, mean in (("ours", 0.6), ("raw", 0.5), ("quotas", 0.5))}
    results = {
        name: MethodResult([{"ndcg": held.mean()}], {"ndcg": held}, {"ndcg": np.ones(60)})
        for name, held in values.items()
    }
    found = differences(results, ["raw", "quotas"], "ndcg")
    drawn = np.random.default_rng(0)
    means = []
    for _ in range(2000):
        rows = drawn.integers(0, 60, 60)
        means.append([held[rows].mean() for held in values.values()])
    ours, *rivals = np.array(means).T
    np.testing.assert_allclose(found["ours"][1:], np.quantile(ours - np.maximum(*rivals), [0.025, 0.975]))
    assert found["ours"].value == values["ours"].mean() - max(values["raw"].mean(), values["quotas"].mean())
    np.testing.assert_allclose(found["raw"][1:], np.quantile(rivals[0] - rivals[1], [0.025, 0.975]))  # not with itself
    for rival in ("raw", "quotas"):
        assert found["ours"].low <= differences(results, [rival], "ndcg")["ours"].low


def test_what_is_as_good_as_its_rivals_is_hardly_ever_called_better_than_all():
    rng, better, of_each = np.random.default_rng(0), 0, 0
    for _ in range(80):
        common = rng.normal(0.5, 0.25, 80)
        values = {name: common + rng.normal(0, 0.15, 80) for name in ("ours", "raw", "quotas", "dbsf")}
        results = {
            name: MethodResult([{"ndcg": held.mean()}], {"ndcg": held}, {"ndcg": np.ones(80)})
            for name, held in values.items()
        }
        better += differences(results, rivals_in(results), "ndcg", resamples=200)["ours"].low > 0
        of_each += sum(differences(results, [one], "ndcg", resamples=200)["ours"].low > 0 for one in rivals_in(results))
    assert better <= 2  # 2.5 % of 80
    assert of_each > 3 * better  # while one of three is often said to be beaten


def test_methods_that_find_nothing_for_some_queries_have_their_own_intervals():
    """A corpus of texts: the index of the query's own kind finds nothing for images, so that no share is known."""
    images, texts = gapped(10, 3)
    judged = np.stack([np.arange(20), np.arange(20)], axis=1)
    layout = MixedLayout(10, np.arange(20, 40), np.arange(20), judged, np.ones(20))
    found = all_intervals(evaluate_layout(images, texts, layout, all_methods({}, images, texts)))
    assert found["raw"]["text_share"] == found["own_kind"]["text_share"] == (1, 1)
    assert found["own_kind"]["recall"] != found["raw"]["recall"]


def test_means_are_over_the_queries_that_a_method_has():
    both = {
        name: MethodResult([{}], {"m": np.array(sums)}, {"m": np.array(counts)})
        for name, sums, counts in (("half", [1.0, 0, 1, 0], [1, 0, 1, 0]), ("all", [1.0, 1, 1, 1], [1, 1, 1, 1]))
    }
    assert intervals(list(both.values()), "m") == [(1, 1), (1, 1)]


def test_a_single_query_has_no_interval():
    results = {
        name: MethodResult([{"ndcg": value}], {"ndcg": np.array([value])}, {"ndcg": np.ones(1)})
        for name, value in (("ours", 0.5), ("raw", 0.25))
    }
    assert str(differences(results, ["raw"], "ndcg")["ours"]) == "+0.250 (unknown)"


@pytest.mark.skipif(not REAL.is_file(), reason="real CLIP embeddings are not at ../shared/realdata")
def test_standardised_scores_on_real_clip_embeddings():
    """Over 20 splits NDCG@10 is .756 with eight constants, and .796 adaptively."""
    images, texts = np.load(REAL)
    embeddings = Embeddings(images, texts, np.arange(500), [str(row) for row in range(500)], [""] * 500)
    results = evaluate_splits(embeddings, lambda x, y: all_methods({}, x, y), splits=4)
    means = {name: result.mean()["ndcg"] for name, result in results.items()}
    assert means["constants"] >= 0.74 and means["adaptive"] >= 0.78
    assert 0.64 < means["rank_fusion"] < 0.69 and means["raw"] == 0
    # R@1 among images and among texts: constants do not change it, the adaptive form raises it.
    fitted = ScoreStandardizer().fit({"image": images[:250], "text": texts[:250]})
    scores = fitted.scores(images[250:], "image", texts[250:], "text")
    cosines = fitted.vectors(images[250:], "image") @ fitted.vectors(texts[250:], "text").T
    for axis in (0, 1):
        adaptive, raw = ((matrix.argmax(axis) == np.arange(250)).mean() for matrix in (scores, cosines))
        assert adaptive >= raw


# --- metrics against a kept library -----------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_and_recall_are_those_of_ir_measures(k):
    """trec_eval's own code, by ir_measures; it breaks ties by name, so there are none here."""
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(5)
    grades = rng.integers(0, 4, size=(25, 40)) * (rng.random((25, 40)) < 0.2)
    grades[:, 0] += 1
    scores, is_text = rng.permuted(np.tile(np.arange(40.0), (25, 1)), axis=1), np.arange(40) % 3 == 0
    query_is_text, order = rng.random(25) < 0.5, np.argsort(-scores, axis=1)
    lists = order, np.take_along_axis(scores, order, axis=1)
    judged = np.argwhere(grades > 0)

    def reference(measure: object, relevant: np.ndarray) -> dict[int, float]:
        counted = relevant[judged[:, 0], judged[:, 1]]
        qrels = [
            ir_measures.Qrel(str(query), str(item), int(grades[query, item]))
            for (query, item), counts in zip(judged, counted)
            if counts
        ]
        run = [
            ir_measures.ScoredDoc(str(query), str(item), scores[query, item])
            for query, item in product(range(25), range(40))
            if relevant[query, item] or grades[query, item] == 0  # relevant items of the other kind are left out
        ]
        return {int(found.query_id): found.value for found in ir_measures.iter_calc([measure], qrels, run)}

    found = metrics_by_kind(*lists, judged, grades[grades > 0], is_text, query_is_text, k)
    own = is_text[None] == query_is_text[:, None]
    for suffix, relevant in (("", np.ones_like(own)), ("_own", own), ("_other", ~own)):
        for name, measure in (("ndcg", ir_measures.nDCG @ k), ("recall", ir_measures.R @ k)):
            expected = reference(measure, relevant)
            known = np.array([expected.get(row, np.nan) for row in range(25)])
            np.testing.assert_allclose(found[f"{name}{suffix}"], known, atol=1e-6)
    plain = ranked_search_metrics(*lists, judged, grades[grades > 0], is_text, k)
    np.testing.assert_array_equal(plain["ndcg"], found["ndcg"])


def test_a_corpus_and_queries_of_one_kind_are_searched_all_the_same():
    images, texts = gapped(30)
    layout = either_kind(np.stack([np.arange(30)] * 2, axis=1), 30)
    own = layout.corpus_is_text
    rows = np.flatnonzero(own)
    renumbered = np.stack([np.arange(len(rows))] * 2, axis=1)
    only = type(layout)(30, layout.corpus[own], layout.queries[own], renumbered, np.ones(len(rows)))
    results = evaluate_layout(images, texts, only, all_methods({}, images, texts))
    assert results["own_kind"].mean()["ndcg"] == 0
    assert results["raw"].mean()["ndcg"] == results["other_kind"].mean()["ndcg"] == results["constants"].mean()["ndcg"]
