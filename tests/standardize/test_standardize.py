"""I0T_post: the formula, exact sums, fit on one set and transform another, files, bad input.

Run: python -m pytest tests/test_standardize.py
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from real_data import FEATURES, needs_features
from safetensors.numpy import save_file

from baselines.mind_the_gap import MindTheGap
from i0t import Embeddings, I0TError, Standardizer
from i0t import standardize as module
from i0t.features import is_torch, to_numpy
from i0t.gap import centroid_distance
from i0t.origin import Origin
from i0t.standardize import arithmetic

# How to make each kind of features from float64 ones, and how far rounding may carry the result.
KINDS = {
    "numpy64": (lambda a: a.astype(np.float64), 1e-14),
    "numpy32": (lambda a: a.astype(np.float32), 1e-6),
    "numpy16": (lambda a: a.astype(np.float16), 1e-3),
    "torch64": (lambda a: torch.from_numpy(a.copy()), 1e-14),
    "torch32": (lambda a: torch.from_numpy(a).float(), 1e-6),
    "torch16": (lambda a: torch.from_numpy(a).half(), 1e-3),
    "bfloat16": (lambda a: torch.from_numpy(a).bfloat16(), 1e-2),
}


def features(seed: int, n: int = 50, m: int = 70, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Images and texts, unequally many and of all lengths, with a gap along the first axis."""
    rng = np.random.default_rng(seed)
    offset = 2 * np.eye(dim)[0]
    images, texts = rng.normal(size=(n, dim)) + offset, rng.normal(size=(m, dim)) - offset
    return images * rng.uniform(0.1, 9, (n, 1)), texts * rng.uniform(0.1, 9, (m, 1))


def naive(fitted: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """N(N(v) - mean of N(fitted)), vector by vector."""
    mean = sum(v / np.sqrt(v @ v) for v in fitted) / len(fitted)
    rows = []
    for v in moved:
        shifted = v / np.sqrt(v @ v) - mean
        rows.append(shifted / np.sqrt(shifted @ shifted))
    return np.array(rows)


def statistics(remover: Any) -> tuple:
    """All fitted values, for exact comparison."""
    return remover.image_mean_.tolist(), remover.text_mean_.tolist(), remover.n_images_, remover.n_texts_


def assert_same_means(one: Standardizer, other: Standardizer) -> None:
    assert one.image_mean_ == pytest.approx(other.image_mean_, abs=1e-12)
    assert one.text_mean_ == pytest.approx(other.text_mean_, abs=1e-12)
    assert (one.n_images_, one.n_texts_) == (other.n_images_, other.n_texts_)


# --- the formula -----------------------------------------------------------------------------


def test_hand_worked():
    """Lengths do not matter: images (1, 0), (0, 1), mean (.5, .5); texts (.6, .8), (-.6, .8), mean (0, .8)."""
    images, texts = np.array([[2.0, 0.0], [0.0, 5.0]]), np.array([[3.0, 4.0], [-0.6, 0.8]])
    standardizer = Standardizer().fit(images, texts)
    assert standardizer.image_mean_ == pytest.approx([0.5, 0.5])
    assert standardizer.text_mean_ == pytest.approx([0, 0.8])
    root = np.sqrt(0.5)
    assert standardizer.transform_image(images) == pytest.approx(np.array([[root, -root], [-root, root]]))
    assert standardizer.transform_text(texts) == pytest.approx(np.array([[1, 0], [-1, 0]]), abs=1e-15)
    assert standardizer.transform_text(np.array([[9.0, 0.0]])) == pytest.approx(np.array([[1, -0.8]]) / np.sqrt(1.64))


def test_agrees_with_naive_reference_on_other_data():
    fit, test = features(0), features(1, n=33, m=21)
    standardizer = Standardizer().fit(*fit)
    assert standardizer.transform_image(test[0]) == pytest.approx(naive(fit[0], test[0]), abs=1e-13)
    assert standardizer.transform_text(test[1]) == pytest.approx(naive(fit[1], test[1]), abs=1e-13)


def test_fitted_set_has_its_mean_near_zero_and_no_gap():
    images, texts = features(2, n=2000, m=2000, dim=64)
    standardizer = Standardizer().fit(images, texts)
    assert centroid_distance(images, texts) > 0.4
    moved = standardizer.transform_image(images), standardizer.transform_text(texts)
    for side in moved:
        assert np.linalg.norm(side.mean(axis=0)) < 0.01
    assert centroid_distance(*moved) < 0.01


@pytest.mark.parametrize("queries", [1, 3])
def test_all_vectors_of_an_item_count_and_move_alike(queries):
    images = np.random.default_rng(3).normal(size=(20, queries, 8)) + 1
    texts = features(3)[1]
    several, flat = Standardizer().fit(images, texts), Standardizer().fit(images.reshape(-1, 8), texts)
    assert_same_means(several, flat)
    assert several.n_images_ == 20 * queries
    moved = several.transform_image(images)
    assert moved.shape == images.shape
    assert moved.reshape(-1, 8) == pytest.approx(flat.transform_image(images.reshape(-1, 8)), abs=1e-14)


# --- exact sums ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 50, 112])
def test_chunks_equal_one_fit(size):
    images, texts = features(4)
    chunked = Standardizer()
    for start in range(0, max(len(images), len(texts)), size):
        parts = [side[start : start + size] for side in (images, texts)]
        chunked.partial_fit(*(part if len(part) else None for part in parts))
    assert_same_means(chunked, Standardizer().fit(images, texts))


def test_modalities_may_come_one_after_the_other():
    images, texts = features(5)
    apart = Standardizer().partial_fit(text_features=texts).partial_fit(images)
    assert statistics(apart) == statistics(Standardizer().fit(images, texts))


def test_float32_chunks_do_not_drift():
    """A float32 running sum of 60 000 equal vectors would be off in the fourth digit."""
    images = np.tile(np.array([[0.6, 0.8]], np.float32), (20_000, 1))
    standardizer = Standardizer().partial_fit(text_features=images[:1])
    for _ in range(3):
        standardizer.partial_fit(images)
    exact = images[0].astype(float) / np.linalg.norm(images[0].astype(float))
    assert standardizer.n_images_ == 60_000
    assert standardizer.image_mean_ == pytest.approx(exact, abs=1e-11)


def test_block_size_changes_nothing(monkeypatch):
    images, texts = features(6)
    whole = Standardizer().fit(images, texts)
    monkeypatch.setattr(arithmetic, "BLOCK_ROWS", 3)
    assert_same_means(Standardizer().fit(images, texts), whole)
    images[31] = 0
    with pytest.raises(I0TError, match="image_features: row 31 has zero length"):  # not its row in the block
        Standardizer().fit(images, texts)


def test_shards_merge_in_any_order():
    images, texts = features(7)
    whole = Standardizer().fit(images, texts)
    cuts = [(slice(0, 1), slice(0, 40)), (slice(1, 30), slice(40, 41)), (slice(30, 50), slice(41, 70))]
    shards = [Standardizer().fit(images[i], texts[t], {"shard": row}) for row, (i, t) in enumerate(cuts)]
    before = [statistics(shard) for shard in shards]
    for a, b, c in itertools.permutations(shards):
        assert_same_means(a.merge(b).merge(c), whole)
        assert_same_means(a.merge(b.merge(c)), whole)
    assert [statistics(shard) for shard in shards] == before
    assert shards[0].merge(shards[2]).origin.as_dict() == {"merged": [{"shard": 0}, {"shard": 2}]}


def test_merge_with_an_empty_one_and_what_is_learned_afterwards():
    images, texts = features(8)
    fitted = Standardizer().fit(images, texts)
    kept = statistics(fitted)
    for merged in (fitted.merge(Standardizer()), Standardizer().merge(fitted)):
        assert statistics(merged) == kept
        merged.partial_fit(images[:3])
        assert merged.n_images_ == 53
    assert statistics(fitted) == kept


def test_merge_refuses_another_kind():
    images, texts = features(9)
    with pytest.raises(I0TError, match="7 dimensions, expected 8"):
        Standardizer().fit(images, texts).merge(Standardizer().fit(images[:, :7], texts[:, :7]))
    with pytest.raises(I0TError, match="not the same remover"):
        Standardizer().fit(images, texts).merge(MindTheGap().fit(images, texts))


def test_fit_forgets_and_partial_fit_does_not():
    first, second = features(10), features(11)
    standardizer = Standardizer().fit(*first, {"data": "first"}).fit(*second)
    assert statistics(standardizer) == statistics(Standardizer().fit(*second))
    assert standardizer.origin == Origin()
    standardizer.partial_fit(*first)
    both = [np.concatenate(sides) for sides in zip(second, first, strict=True)]
    assert_same_means(standardizer, Standardizer().fit(*both))


# --- fit on one set, transform another -------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(30, 8), (10, 3, 8)])
def test_same_kind_comes_out_and_the_input_stays(kind, shape):
    make, tolerance = KINDS[kind]
    fit = features(12)
    values = make(np.random.default_rng(12).normal(size=shape))
    before = values.clone() if is_torch(values) else values.copy()
    standardizer = Standardizer().fit(make(fit[0]), make(fit[1]))
    for fitted, transform in zip(fit, (standardizer.transform_image, standardizer.transform_text), strict=True):
        moved = transform(values)
        assert type(moved) is type(values) and moved.dtype == values.dtype and tuple(moved.shape) == shape
        assert moved is not values and bool((values == before).all())
        if is_torch(values):
            assert moved.device == values.device
        exact = to_numpy(moved).astype(float).reshape(-1, 8)
        assert np.linalg.norm(exact, axis=1) == pytest.approx(1, abs=tolerance)
        rounded = to_numpy(make(fitted)).astype(float)  # the same input, its rounding included
        expected = naive(rounded, to_numpy(values).astype(float).reshape(-1, 8))
        assert exact == pytest.approx(expected, abs=tolerance)


def test_torch_and_numpy_learn_the_same():
    images, texts = features(13)
    arrays = Standardizer().fit(images, texts)
    assert statistics(Standardizer().fit(torch.from_numpy(images), torch.from_numpy(texts))) == statistics(arrays)


def test_gradients_reach_torch_input():
    images, texts = (torch.from_numpy(side) for side in features(14, n=4, m=5))
    standardizer = Standardizer().fit(images, texts)
    assert torch.autograd.gradcheck(standardizer.transform_image, images.requires_grad_())


def test_a_row_moves_the_same_alone_as_in_company():
    """Nothing is estimated from the transformed vectors, so batches and order do not matter."""
    standardizer = Standardizer().fit(*features(15))
    images, texts = features(16)
    for side, transform in ((images, standardizer.transform_image), (texts, standardizer.transform_text)):
        whole = transform(side)
        assert np.concatenate([transform(row[None]) for row in side]) == pytest.approx(whole, abs=1e-15)
        assert transform(side[::-1])[::-1] == pytest.approx(whole, abs=1e-15)


def test_transform_learns_nothing():
    """No leak: evaluated vectors do not change the means."""
    standardizer = Standardizer().fit(*features(17), {"split": "train"})
    before = statistics(standardizer), standardizer.origin
    images, texts = features(18)
    standardizer.transform_image(images), standardizer.transform_text(texts)
    assert (statistics(standardizer), standardizer.origin) == before


def test_modalities_have_means_of_their_own():
    images, texts = features(19)
    standardizer = Standardizer().fit(images, texts)
    assert not np.allclose(standardizer.transform_image(images), standardizer.transform_text(images))


# --- files -----------------------------------------------------------------------------------


def test_save_and_load_lose_nothing(tmp_path):
    images, texts = features(20)
    provenance = {"fit_on": "train", "model": "tiny", "words": "Größe 大", "n": [50, 70], "seed": None}
    fitted = Standardizer().fit(images, texts, provenance)
    path = fitted.save(tmp_path / "new" / "means.safetensors")
    assert [file.name for file in path.parent.iterdir()] == ["means.safetensors"]
    loaded = Standardizer.load(str(path))
    assert statistics(loaded) == statistics(fitted)
    assert loaded.origin == fitted.origin and loaded.origin.as_dict() == provenance
    assert np.array_equal(loaded.transform_text(texts), fitted.transform_text(texts))
    assert statistics(loaded.partial_fit(images)) == statistics(fitted.partial_fit(images))


def test_origin_is_a_copy():
    provenance = {"model": "tiny"}
    fitted = Standardizer().fit(*features(21), provenance)
    provenance["model"] = "other"
    assert fitted.origin.as_dict() == {"model": "tiny"}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, share):
    path = Standardizer().fit(*features(22)).save(tmp_path / "means.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(I0TError, match="means.safetensors: not a file of modality means"):
        Standardizer.load(path)


def test_other_files_are_refused(tmp_path):
    eye, names = np.eye(2), ["a", "b"]
    Embeddings(eye, eye, np.arange(2), names, names).save(tmp_path / "embeddings.safetensors")
    save_file({"image_sum": eye}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.json").write_text('{"image_mean": [0, 1]}' * 9)
    for name in ("embeddings.safetensors", "foreign.safetensors", "text.json"):
        with pytest.raises(I0TError, match=f"{name}: not a file of modality means"):
            Standardizer.load(tmp_path / name)
    with pytest.raises(I0TError, match="gone: no such file"):
        Standardizer.load(tmp_path / "gone")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(I0TError, match=tmp_path.name):
        Standardizer.load(tmp_path)


def test_file_without_its_tensors_is_refused(tmp_path):
    """The right format, but half of the entries are missing."""
    path = tmp_path / "half.safetensors"
    save_file({"image_sum": np.ones(2)}, path, metadata={"format": module.FORMAT})
    with pytest.raises(I0TError, match=r"half\.safetensors"):
        Standardizer.load(path)


# --- bad input -------------------------------------------------------------------------------


def spoiled(value: float) -> np.ndarray:
    images = features(23)[0]
    images[17] = value
    return images


BAD = [
    (spoiled(np.nan), "row 17 holds NaN or infinite"),
    (spoiled(np.inf), "row 17 holds NaN or infinite"),
    (spoiled(0), "row 17 has zero length"),
    (torch.from_numpy(spoiled(np.nan)), "row 17 holds NaN or infinite"),
    (np.ones((0, 8)), "empty"),
    (np.ones(8), r"expected shape \(N, D\)"),
    (np.ones((4, 9)), "9 dimensions, expected 8"),
    (np.ones((4, 8), int), "dtype int64"),
    ([[1.0] * 8], "got list"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_refused_input_changes_nothing(bad, message, modality):
    standardizer = Standardizer().fit(*features(24), {"model": "tiny"})
    before = statistics(standardizer)
    good = features(25)
    both = (bad, good[1]) if modality == "image" else (good[0], bad)
    for call in (standardizer.partial_fit, standardizer.fit):
        if call == standardizer.fit and "dimensions" in message:
            continue  # the other modality is what it would have to agree with; below
        with pytest.raises(I0TError, match=f"{modality}_features: .*{message}"):
            call(*both)
        assert statistics(standardizer) == before
        assert standardizer.origin == Origin(model="tiny")
    transform = standardizer.transform_image if modality == "image" else standardizer.transform_text
    with pytest.raises(I0TError, match=f"{modality}_features: .*{message}"):
        transform(bad)


def test_modalities_must_have_one_dimension():
    with pytest.raises(I0TError, match="text_features: 7 dimensions, expected 8. Do both come from the same model"):
        Standardizer().fit(np.ones((3, 8)), np.ones((3, 7)))
    with pytest.raises(I0TError, match="image_features: 7 dimensions, expected 8"):
        Standardizer().partial_fit(text_features=np.ones((3, 8))).partial_fit(np.ones((3, 7)))


def test_not_fitted_is_said_with_the_remedy(tmp_path):
    images, texts = features(26)
    for call in (
        lambda: Standardizer().transform_image(images),
        lambda: Standardizer().image_mean_,
        lambda: Standardizer().save(tmp_path / "means.safetensors"),
        lambda: Standardizer().partial_fit(text_features=texts).transform_image(images),
    ):
        with pytest.raises(I0TError, match=r"Standardizer has no image mean yet: call fit\("):
            call()
    with pytest.raises(I0TError, match="no text mean yet"):
        Standardizer().partial_fit(images).transform_text(texts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_equal_to_the_mean_has_no_direction(kind):
    same = KINDS[kind][0](np.tile([[0.6, 0.0, 0.8]], (4, 1)))
    other = KINDS[kind][0](np.array([[0.0, 1.0, 0.0], [1.2, 0.0, 1.6]]))
    standardizer = Standardizer().fit(same, same)
    with pytest.raises(I0TError, match=r"text_features: row 1 becomes a zero vector under Standardizer\(\)"):
        standardizer.transform_text(other)
    assert to_numpy(standardizer.transform_text(other[:1])).shape == (1, 3)


# --- real CLIP features ----------------------------------------------------------------------


@needs_features
def test_real_clip_features_fitted_on_other_pairs():
    """Means of 250 COCO pairs close the gap of 250 others to about 1.1 sqrt(2 / 250) = 0.10."""
    images, texts = np.load(FEATURES)
    standardizer = Standardizer().fit(images[:250], texts[:250], {"rows": "0-249"})
    assert centroid_distance(images[250:], texts[250:]) > 0.8
    moved = standardizer.transform_image(images[250:]), standardizer.transform_text(texts[250:])
    assert moved[0].dtype == np.float32
    honest = centroid_distance(*moved)
    leaked = Standardizer().fit(images[250:], texts[250:])
    assert honest <= 0.13
    closed = centroid_distance(leaked.transform_image(images[250:]), leaked.transform_text(texts[250:]))
    assert closed < 0.3 * honest
