"""`ScoreStandardizer`: by hand, against a slow reference, in parts, with torch, through its file.

Run: python -m pytest tests/search/test_score_standardizer.py
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.search import MixedIndex, ScoreStandardizer, VectorIndex
from i0t.search.score_arithmetic import nearest_scales
from i0t.standardize import Standardizer, Whitening, ZScore

SIZES = {"image": 40, "text": 55, "audio": 31}


def cone(n: int, seed: int, axis: int, dim: int = 12) -> np.ndarray:
    """Vectors of one kind, around an axis of their own, of any length."""
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, size=(n, 1)) * (rng.normal(size=(n, dim)) + 3 * np.eye(dim)[axis])).astype("float32")


def cohorts(*kinds: str) -> dict[str, np.ndarray]:
    return {kind: cone(SIZES[kind], 7 + place, place) for place, kind in enumerate(kinds)}


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)


def slow_scores(moved: dict, queries: np.ndarray, kind: str, items: np.ndarray, item_kind: str, share: float | None):
    """The formula, pair by pair, on unit vectors that are already moved; share None: constants."""
    everything = [
        float(x @ y)
        for (i, x), (j, y) in product(enumerate(moved[kind]), enumerate(moved[item_kind]))
        if kind != item_kind or i != j
    ]

    def nearest(vector: np.ndarray, other: str) -> tuple[float, float]:
        if share is None:
            return float(np.mean(everything)), float(np.std(everything))
        size = round(share * len(moved[other]))
        largest = sorted((float(vector @ held) for held in moved[other]), reverse=True)[:size]
        return float(np.mean(largest)), max(float(np.std(largest)), 0.2 * float(np.std(everything)))

    result = np.empty((len(queries), len(items)))
    for (row, query), (column, item) in product(enumerate(queries), enumerate(items)):
        (mean_q, deviation_q), (mean_d, deviation_d) = nearest(query, item_kind), nearest(item, kind)
        cosine = float(query @ item)
        result[row, column] = ((cosine - mean_q) / deviation_q + (cosine - mean_d) / deviation_d) / 2
    return result


def test_constants_of_a_case_by_hand():
    # Images at 0, 60 and 90 degrees: cosines .5, 0, sqrt(3)/2 of distinct ones. Texts at 0, 90 and 180 degrees.
    angles = np.deg2rad([0, 60, 90])
    images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    texts = np.array([[1.0, 0], [0, 1], [-1, 0]])
    fitted = ScoreStandardizer(form="constants").fit({"image": images, "text": texts})
    same, root = np.array([0.5, 0.0, np.sqrt(0.75)]), np.sqrt(0.75)
    np.testing.assert_allclose(fitted.scale("image", "image"), [same.mean(), same.std()], atol=1e-6)
    cross = np.array([1, 0, -1, 0.5, root, -0.5, 0, 1, 0])
    np.testing.assert_allclose(fitted.scale("image", "text"), [cross.mean(), cross.std()], atol=1e-6)
    np.testing.assert_allclose(fitted.scale("text", "image"), fitted.scale("image", "text"))
    scores = fitted.scores(images[:1], "image", 5 * texts[:1], "text")
    np.testing.assert_allclose(scores, [[(1 - cross.mean()) / cross.std()]], atol=1e-6)


@pytest.mark.parametrize("form", ["constants", "adaptive"])
@pytest.mark.parametrize("remover", [None, Standardizer(), ZScore(), Whitening()])
def test_scores_are_the_formula_pair_by_pair(form, remover, monkeypatch):
    monkeypatch.setattr("i0t.search.score_arithmetic.BLOCK_BYTES", 4 * 60 * 3)  # a few rows at once
    kinds = ("image", "text") if remover else ("image", "text", "audio")
    given = cohorts(*kinds)
    fitted = ScoreStandardizer(remover, form).fit(given)
    moved = {kind: unit(fitted.vectors(vectors, kind)) for kind, vectors in given.items()}
    for kind, item_kind in product(kinds, kinds):
        queries, items = cone(5, 1, kinds.index(kind)), cone(6, 2, kinds.index(item_kind))
        expected = slow_scores(
            moved,
            unit(fitted.vectors(queries, kind)),
            kind,
            unit(fitted.vectors(items, item_kind)),
            item_kind,
            0.1 if form == "adaptive" else None,
        )
        found = fitted.scores(queries, kind, items, item_kind)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
        exact = fitted.scores(queries.astype(float), kind, items.astype(float), item_kind)
        np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-4)
        of_torch = fitted.scores(torch.tensor(queries), kind, torch.tensor(items), item_kind)
        np.testing.assert_allclose(of_torch.numpy(), found, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("form", ["constants", "adaptive"])
def test_parts_and_merged_parts_are_the_whole(form):
    whole = cohorts("image", "text")
    fitted = ScoreStandardizer(form=form).fit(whole)
    parts = [{kind: vectors[rows] for kind, vectors in whole.items()} for rows in (slice(0, 9), slice(9, None))]
    in_turn = ScoreStandardizer(form=form).partial_fit(parts[0]).partial_fit({"text": parts[1]["text"]})
    in_turn.partial_fit({"image": parts[1]["image"]})
    one, other = (ScoreStandardizer(form=form).fit(part) for part in parts)
    queries, items = cone(4, 1, 1), cone(5, 2, 0)
    expected = fitted.scores(queries, "text", items, "image")
    for same in (in_turn, one.merge(other)):
        assert same.counts == fitted.counts
        np.testing.assert_allclose(same.scores(queries, "text", items, "image"), expected, rtol=1e-5, atol=1e-5)
    assert one.counts == {"image": 9, "text": 9}  # merging changes neither part
    with pytest.raises(I0TError, match="cannot be merged"):
        one.merge(ScoreStandardizer(Standardizer(), form).fit(parts[1]))


@pytest.mark.parametrize("remover", [None, Standardizer(), Whitening(0.5)])
@pytest.mark.parametrize("form", ["constants", "adaptive"])
def test_the_file_keeps_scores_vectors_and_origin(tmp_path, form, remover):
    given, names = cohorts("image", "text"), [f"{row}.jpg" for row in range(40)]
    texts = [f"caption {row}" for row in range(55)]
    embeddings = Embeddings(given["image"], given["text"], np.full(55, -1), names, texts, metadata={"model": "m"})
    fitted = ScoreStandardizer(remover, form, share=0.2).fit_embeddings(embeddings)
    read = ScoreStandardizer.load(fitted.save(tmp_path / "scores.safetensors"))
    assert read.fingerprint == fitted.fingerprint and repr(read) == repr(fitted)
    assert read.origin == fitted.origin and read.origin.model == "m"
    assert read.overlap(embeddings).image_share == 1.0
    queries, items = cone(4, 1, 1), cone(5, 2, 0)
    np.testing.assert_array_equal(
        read.scores(queries, "text", items, "image"), fitted.scores(queries, "text", items, "image")
    )
    np.testing.assert_array_equal(read.vectors(items, "image"), fitted.vectors(items, "image"))
    with pytest.raises(I0TError, match="not a file of modality means"):
        Standardizer.load(tmp_path / "scores.safetensors")


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("checksum", lambda _: "0", "damaged: its content does not match its checksum"),
        ("text_cohort", lambda cohort: 2 * cohort, "text_cohort: not unit vectors: damaged"),
        ("text_cohort", lambda cohort: cohort[1:], r"text_cohort: float32 of shape \(54, 12\), expected"),
        ("image_sum", lambda total: total * np.nan, "image_sum: 40 unit vectors cannot have a sum of length nan"),
        ("image_product_sum", lambda total: -total, "image_product_sum: cannot be second moments of 40"),
        ("counts", lambda counts: counts[:1], "counts: int64 of shape"),
        ("remover.text_sum", lambda total: total[:2], r"text_sum: float64 of shape \(2,\)"),
        ("remover.text_sum", lambda total: None, "text_sum left out"),
        ("kinds", lambda kinds: '["image", "image"]', "no distinct names"),
        ("kinds", lambda kinds: '["image", "audio"]', "audio_sum, audio_product_sum, audio_cohort left out"),
        ("parameters", lambda _: '{"form": "x", "share": 0.1}', "form: 'x' is none of .* Fit it again"),
        ("parameters", lambda _: '{"form": "adaptive", "share": "1"}', '"share" is "1", not a number'),
        ("provenance", lambda _: '{"dim": "x"}', '"dim" is "x"'),
        ("remover", lambda _: "[]", "the header of its remover"),
    ],
)
def test_damaged_file_is_refused(tmp_path, key, change, says):
    path = ScoreStandardizer(Standardizer()).fit(cohorts("image", "text")).save(tmp_path / "scores.safetensors")
    with safe_open(path, framework="numpy") as file:
        header, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if key != "checksum":
        del header["checksum"]
    part = header if key in header else tensors
    part[key] = change(part[key])
    if part[key] is None:
        del part[key]
    save_file(tensors, path, metadata=header)
    with pytest.raises(I0TError, match=rf"^{path}.*{says}"):
        ScoreStandardizer.load(path)


def test_an_item_of_the_cohort_does_not_count_itself():
    """With the index as its own cohort, an item's nearest of its kind would be the item."""
    given = cohorts("image", "text")
    fitted = ScoreStandardizer().fit(given)
    others = ScoreStandardizer().fit({**given, "image": given["image"][1:]})
    own = given["image"][:1]
    np.testing.assert_allclose(fitted.scales(own, "image", "image"), others.scales(own, "image", "image"), rtol=0.01)


def test_copies_get_equal_scales_and_items_without_spread_a_finite_score():
    cohort = np.repeat(cone(3, 0, 0, 512), 20, axis=0)
    items = np.repeat(cone(7, 1, 0, 512), 9, axis=0)
    scales = nearest_scales(
        unit(items).astype("float32"), unit(cohort).astype("float32"), 6, np.array([0.2, 0.1]), True
    )
    assert len(np.unique(scales, axis=0)) <= 7
    np.testing.assert_allclose(scales[:, 1], 0.02)  # the largest six are copies


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(I0TError, match="three of each kind"):
        ScoreStandardizer().fit({"image": cone(2, 0, 0), "text": cone(9, 0, 1)}).scale("image", "text")
    with pytest.raises(I0TError, match="0 audio vectors are fitted"):
        ScoreStandardizer().fit(cohorts("image", "text")).scores(cone(2, 0, 0), "audio", cone(2, 0, 0), "text")
    with pytest.raises(I0TError, match="moves images and texts, not 'audio'"):
        ScoreStandardizer(Standardizer()).fit(cohorts("image", "text", "audio"))
    same = np.ones((9, 4), dtype="float32")
    with pytest.raises(I0TError, match="map everything to one point"):
        ScoreStandardizer().fit({"image": same, "text": same}).scores(same, "image", same, "text")
    with pytest.raises(I0TError, match="dimensions"):
        ScoreStandardizer().fit({"image": cone(9, 0, 0, 4), "text": cone(9, 0, 1, 5)})
    with pytest.raises(I0TError, match="form: 'zscore'"):
        ScoreStandardizer(form="zscore")
    with pytest.raises(I0TError, match="row 3"):
        ScoreStandardizer().fit({"image": np.where(np.arange(9)[:, None] == 3, np.nan, cone(9, 0, 0))})


def test_what_cannot_be_fitted_or_searched_is_refused():
    given = cohorts("image", "text", "audio")
    with pytest.raises(I0TError, match="no kinds to fit"):
        ScoreStandardizer().fit({})
    with pytest.raises(I0TError, match="no text vectors, and a gap remover"):
        ScoreStandardizer(ZScore()).fit({"image": given["image"]})
    for form, index in product(("constants", "adaptive"), ("flat", "Flat")):
        fitted = ScoreStandardizer(form=form).fit(given)
        with pytest.raises(I0TError, match="no items"):
            MixedIndex(fitted, {}, index)
        with pytest.raises(I0TError, match="k: must be 1 or more"):
            MixedIndex(fitted, given, index).search(given["audio"], "audio", k=0)
    with pytest.raises(I0TError, match="k: must be 1 or more"):
        VectorIndex(given["image"]).search(given["image"], 0)
