"""Overlap between fitted and evaluated items: every overlap of 1 %, none invented, files, samples beyond the cap.

Run: python -m pytest tests/test_overlap.py
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace

import numpy as np
import pytest

from i0t import Embeddings, Standardizer, ZScore
from i0t.standardize import overlap as module
from i0t.standardize.overlap import ItemHashes, Overlap, find_overlap, hash_items, item_hashes


def embeddings(rows: np.ndarray, named: bool = True) -> Embeddings:
    """Pairs numbered `rows`: vectors, names and words follow from the number alone."""
    vectors = np.stack([np.random.default_rng(int(row)).normal(size=(2, 8)) for row in rows]).astype(np.float32)
    names = [f"{row:012}.jpg" if named else str(place) for place, row in enumerate(rows)]
    texts = [f"caption {row}" if named else "" for row in rows]
    return Embeddings(vectors[:, 0], vectors[:, 1], np.arange(len(rows)), names, texts)


@pytest.mark.parametrize("common", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("named", [True, False])
def test_the_share_is_exact(common, named):
    fitted = embeddings(np.arange(200), named)
    evaluated = embeddings(np.arange(200 - common, 300 - common), named)
    found = Standardizer().fit_embeddings(fitted).overlap(evaluated)
    assert found.image_share == pytest.approx(common / 100) and found.text_share == pytest.approx(common / 100)
    assert found.miss_probability == 0 and bool(found) == (common > 0)


def test_every_overlap_of_one_percent_is_found():
    """100 draws with 1 % in common, and 100 with nothing in common."""
    fitted = item_hashes(embeddings(np.arange(500)))
    rng = np.random.default_rng(0)
    for _ in range(100):
        fresh = 1000 + rng.choice(10**6, 100, replace=False)
        assert not find_overlap(fitted, embeddings(fresh[:30]))
        fresh[rng.integers(100)] = rng.integers(500)
        assert find_overlap(fitted, embeddings(fresh)).image_share == pytest.approx(0.01)


def test_encoded_elsewhere_is_found_by_name_and_renamed_by_vector():
    fitted, same = embeddings(np.arange(50)), embeddings(np.arange(50))
    nudged = same.with_features(same.image_features * np.float32(1.001), same.text_features * np.float32(1.001))
    found = find_overlap(item_hashes(fitted), nudged)
    assert found.shares == {"image_vectors": 0, "text_vectors": 0, "image_names": 1, "text_words": 1}
    assert found.image_share == 1
    assert find_overlap(item_hashes(fitted), embeddings(np.arange(50), named=False)).shares["text_vectors"] == 1


def test_names_that_agree_alone_are_told_from_items_that_do():
    fitted, others = embeddings(np.arange(50)), embeddings(np.arange(100, 150))
    same_names = replace(others, image_ids=fitted.image_ids)
    found = find_overlap(item_hashes(fitted), same_names)
    assert found and str(found).endswith("were fitted, by name alone: other images may have the same names")
    for agreeing in (fitted, replace(others, texts=fitted.texts)):
        assert "by name alone" not in str(find_overlap(item_hashes(fitted), agreeing))


def test_row_numbers_and_empty_texts_are_no_names():
    one, other = embeddings(np.arange(20), named=False), embeddings(np.arange(100, 120), named=False)
    assert not find_overlap(item_hashes(one), other)


def test_transforming_fitted_items_warns_and_is_recorded():
    fitted = ZScore().fit_embeddings(embeddings(np.arange(100)))
    with pytest.warns(UserWarning, match=r"5\.0 % of the images and 5\.0 % of the texts were fitted"):
        moved = fitted.transform_embeddings(embeddings(np.arange(95, 195)))
    assert moved.metadata["gap_removed"]["overlap"]["image_share"] == pytest.approx(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.transform_embeddings(embeddings(np.arange(100, 200)))


def test_hashes_travel_in_the_file_and_merge(tmp_path):
    parts = [Standardizer().fit_embeddings(embeddings(np.arange(start, start + 60))) for start in (0, 40)]
    path = parts[0].merge(parts[1]).save(tmp_path / "merged.safetensors")
    loaded = Standardizer.load(path)
    evaluated = embeddings(np.arange(90, 110))
    assert loaded.overlap(evaluated).image_share == pytest.approx(0.5)
    assert loaded.items_["image_vectors"].count == 120  # the 20 common ones counted twice
    assert np.array_equal(
        loaded.items_["text_words"].hashes, item_hashes(embeddings(np.arange(100)))["text_words"].hashes
    )


def test_bare_arrays_leave_it_unknown():
    one = embeddings(np.arange(10))
    found = Standardizer().fit(one.image_features, one.text_features).overlap(one)
    assert found == Overlap(None, None) and not found and "unknown" in str(found)


def test_items_are_unknown_once_bare_arrays_join_in():
    one, other = embeddings(np.arange(10)), embeddings(np.arange(10, 20))
    named = Standardizer().fit_embeddings(one)
    bare = Standardizer().fit(other.image_features, other.text_features)
    for joined in (named.merge(bare), bare.merge(named), named.merge(named).partial_fit(other.image_features)):
        assert joined.overlap(other) == Overlap(None, None)
    assert (
        Standardizer().merge(named).overlap(one).image_share == named.merge(Standardizer()).overlap(one).text_share == 1
    )


def test_hashes_are_blake2b():
    expected = sorted(int.from_bytes(hashlib.blake2b(item, digest_size=8).digest(), "little") for item in (b"a", b"b"))
    assert hash_items([b"b", b"a", b"b"]).hashes.tolist() == expected


def test_beyond_the_cap_a_sample_is_kept(monkeypatch):
    """Of 4 000 fitted items 500 hashes: shares stay unbiased, merging exact, the chance to miss as stated."""
    monkeypatch.setattr(module, "CAP", 500)
    items = [str(number).encode() for number in range(8000)]
    fitted = hash_items(items[:4000])
    assert len(fitted.hashes) == 500 and fitted.count == 4000
    assert fitted.sampled == pytest.approx(500 / 4000, rel=0.2)
    merged = hash_items(items[:1500]).merged(hash_items(items[1500:4000]))
    assert np.array_equal(merged.hashes, fitted.hashes) and merged.count == 4000
    share, _ = module._share(fitted, hash_items(items[2000:6000]))
    assert share == pytest.approx(0.5, abs=0.12)  # 500 or so comparable items: five standard errors
    missed, chances = 0, []
    for start in range(4000, 8000, 100):
        evaluated = hash_items([*items[start : start + 99], items[start - 4000]])
        share, chance = module._share(fitted, evaluated)
        missed += share == 0
        chances.append(chance)
    assert chances[0] == pytest.approx(1 - fitted.sampled)  # one common item of a hundred
    assert missed / 40 == pytest.approx(chances[0], abs=0.2)


def test_no_overlap_of_one_percent_is_missed_among_a_million():
    """At the cap nothing is sampled away: 2^20 items minus one are all known."""
    many = np.unique(np.random.default_rng(0).integers(0, 2**64, module.CAP + 1000, dtype=np.uint64))
    known = ItemHashes(many[: module.CAP - 1], module.CAP - 1)
    assert known.sampled == 1
    common = ItemHashes(np.sort(np.append(many[-999:], many[:10])), 1009)
    assert module._share(known, common) == (pytest.approx(10 / 1009), 0.0)
