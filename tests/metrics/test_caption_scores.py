"""CLIP-S, PAC-S and I0T-S: hand-worked cases, scipy's harmonic mean, the clip rule.

Run: python -m pytest tests/test_caption_scores.py
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import hmean
from torch.nn import functional as F

from i0t.metrics.caption_scores import PREFIX, SCORES, CaptionScore

IMAGES = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
TEXTS = np.array([[0.6, 0.8], [-0.6, 0.8], [0.8, -0.6]])  # cosines .6, -.6, 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("clip_s", [1.5, 0, 0]), ("pac_s", [1.2, 0, 0]), ("i0t_s", [0.6, -0.6, 0])],
)
def test_reference_free_hand_worked(name, expected):
    assert SCORES[name].reference_free(IMAGES, TEXTS) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", SCORES)
def test_reference_free_agrees_with_torchs_cosine(name):
    rng = np.random.default_rng(0)
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 200, 16)))
    cosines = F.cosine_similarity(torch.from_numpy(images), torch.from_numpy(texts)).numpy()
    scores = SCORES[name].reference_free(images, texts)
    if name == "i0t_s":
        assert scores == pytest.approx(cosines, abs=1e-14)
        assert (scores < 0).any()
    else:
        w = {"clip_s": 2.5, "pac_s": 2.0}[name]
        assert scores == pytest.approx([w * max(cosine, 0) for cosine in cosines], abs=1e-14)
        assert (scores == 0).sum() == (cosines <= 0).sum() > 0


def test_protocol_of_the_family():
    """App. D: the prefix of all three, w, and which scores are clipped."""
    assert PREFIX == "A photo depicts "
    assert {key: (score.name, score.w, score.clip, score.prefix) for key, score in SCORES.items()} == {
        "clip_s": ("clip_s", 2.5, True, PREFIX),
        "pac_s": ("pac_s", 2.0, True, PREFIX),
        "i0t_s": ("i0t_s", 1.0, False, PREFIX),
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCORES["pac_s"].w = 1.0


def test_with_references_hand_worked():
    """PAC-S 1.2 and reference .4: 2 x 1.2 x .4 / 1.6; the reference part is not scaled."""
    scores = SCORES["pac_s"].reference_free(IMAGES[:1], TEXTS[:1])
    assert SCORES["pac_s"].with_references(scores, np.array([0.4])) == pytest.approx([0.6])


@pytest.mark.parametrize("name", SCORES)
def test_with_references_is_the_harmonic_mean_of_positive_values(name):
    scores, references = np.random.default_rng(1).uniform(1e-3, 2, (2, 100))
    found = SCORES[name].with_references(scores, references)
    assert found == pytest.approx(hmean([scores, references]), rel=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    ("score", "reference", "expected"),
    [(0.0, 0.0, 0.0), (0.0, 0.8, 0.0), (1.2, 0.0, 0.0), (0.5, 0.5, 0.5)],
)
def test_zeros_give_zero_and_no_warning(name, score, reference, expected):
    with np.errstate(all="raise"):
        found = SCORES[name].with_references(np.array([score]), np.array([reference]))
    assert found.tolist() == [expected]


@pytest.mark.parametrize("name", SCORES)
def test_negative_terms_count_as_zero_so_there_is_no_pole(name):
    """-0.3 and 0.3 would divide by zero, -0.3 and 0.31 would give -18."""
    scores, references = np.array([-0.3, -0.3, 0.3, 0.31, 1.0, -0.2]), np.array([0.3, 0.31, -0.3, -0.3, -0.5, -0.4])
    with np.errstate(all="raise"):
        assert SCORES[name].with_references(scores, references).tolist() == [0] * 6


@pytest.mark.parametrize("name", SCORES)
def test_reference_scores_of_standardised_features_stay_in_their_range(name):
    """Best-reference cosines of centred features are often negative; no mean may leave its terms."""
    features = np.random.default_rng(2).normal(size=(3, 5000, 8))
    images, texts, references = features / np.linalg.norm(features, axis=2, keepdims=True)
    score = SCORES[name]
    found = score.with_references(score.reference_free(images, texts), np.sum(texts * references, axis=1))
    assert (found == 0).any() and found.min() >= 0 and found.max() <= score.w


@pytest.mark.parametrize("name", ["clip_s", "pac_s"])
def test_positive_references_give_what_the_authors_code_gives(name):
    """2 s r / (s + r) of their programs, neither scaled nor clipped: raw CLIP's cosines of texts are positive."""
    scores, references = np.random.default_rng(3).uniform(0.01, 1, (2, 100))
    expected = 2 * scores * references / (scores + references)
    assert np.array_equal(SCORES[name].with_references(scores, references), expected)


def test_better_caption_scores_higher_and_the_input_stays():
    scores, references = np.array([0.2, 0.4, 0.4]), np.array([0.3, 0.3, 0.6])
    before = scores.copy(), references.copy()
    found = CaptionScore("mine", 1.0, clip=False).with_references(scores, references)
    assert found[0] < found[1] < found[2]
    assert np.array_equal(scores, before[0]) and np.array_equal(references, before[1])


# --- torchmetrics' CLIPScore -----------------------------------------------------------------


class RandomEncoders:
    """A model and a processor with transformers' interface: features are fixed random projections."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.of_pixels = torch.randn(3 * 4 * 4, 16, generator=generator)
        self.of_words = torch.randn(256, 16, generator=generator)
        self.config = object()

    def to(self, device: torch.device) -> RandomEncoders:
        return self

    def __call__(self, images=None, text=None, **_) -> dict[str, torch.Tensor]:
        if images is not None:
            return {"pixel_values": torch.stack([image.float() / 127.5 - 1 for image in images])}
        counts = torch.stack([torch.bincount(torch.tensor(list(t.encode())), minlength=256) for t in text])
        return {"input_ids": counts, "attention_mask": torch.ones_like(counts)}

    def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1) @ self.of_pixels

    def get_text_features(self, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return counts.float() @ self.of_words


def test_clip_s_is_that_of_torchmetrics_pair_by_pair():
    """Same cosine, same clipping; torchmetrics has w = 100 and no prefix, and clips the mean."""
    from torchmetrics.functional.multimodal import clip_score

    encoders = RandomEncoders()
    pictures = torch.randint(0, 256, (20, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    captions = [f"caption {row} of {chr(97 + row) * row}" for row in range(20)]
    features = (
        F.normalize(encoders.get_image_features(encoders(images=list(pictures))["pixel_values"]), dim=-1).numpy(),
        F.normalize(encoders.get_text_features(encoders(text=captions)["input_ids"], None), dim=-1).numpy(),
    )
    ours = dataclasses.replace(SCORES["clip_s"], w=100.0, prefix="").reference_free(*features)
    theirs = [
        float(clip_score(picture, caption, lambda: (encoders, encoders)))
        for picture, caption in zip(pictures, captions, strict=True)
    ]
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert 0 < sum(score == 0 for score in theirs) < 20  # some pairs are clipped, some are not
