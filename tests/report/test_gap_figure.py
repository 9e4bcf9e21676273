"""The demo's figure: points on the sphere, cosines of pairs, a file that opens.

Run: python -m pytest tests/report/test_gap_picture.py
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from i0t.embeddings import Embeddings
from i0t.report.figures import gap_picture
from i0t.report.measurements import cosine_histograms, unit_pairs
from i0t.report.sphere import project


def two_cones(n: int = 60, dim: int = 16, apart: float = 2.0) -> Embeddings:
    """Pairs that share their content and differ by a constant offset."""
    rng = np.random.default_rng(0)
    content, offset = rng.normal(size=(n, dim)), np.zeros(dim)
    offset[0] = apart * np.sqrt(dim)
    images, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (content + offset, content - offset))
    names = [str(row) for row in range(n)]
    return Embeddings(images.astype(np.float32), texts.astype(np.float32), np.arange(n), names, names)


def test_sphere_keeps_two_cones_apart_and_points_on_the_sphere():
    embeddings = two_cones()
    points = project(np.concatenate([embeddings.image_features, embeddings.text_features]))
    assert points.shape == (120, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -2)
    nearest = cosines.argmax(axis=1)
    other_modality = (nearest < 60) != (np.arange(120) < 60)
    assert other_modality.mean() < 0.1


def test_matched_cosines_are_those_of_the_pairs_and_unmatched_of_others():
    found = cosine_histograms({"only": unit_pairs(two_cones(apart=0.0))})  # images and texts are equal
    matched, unmatched = (found["only"][kind] for kind in ("matched", "unmatched"))
    assert matched["mean"] == pytest.approx(1, abs=1e-6) and matched["count"] == 60
    assert unmatched["count"] == 60 * 59
    assert unmatched["shares"][-1] == 0  # not one pair with itself


def test_image_is_written_whole(tmp_path):
    path = gap_picture({"before": two_cones(), "after": two_cones(apart=0.1)}, tmp_path / "gap.png")
    with Image.open(path) as picture:
        picture.load()
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    assert [file.name for file in tmp_path.iterdir()] == ["gap.png"]
