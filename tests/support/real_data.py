"""Marks of tests on real data, which the checkout does not hold: a skip says what is missing, and where to put it."""

from __future__ import annotations

import pytest

from i0t.paths import REPO

FOLDER = REPO.parent / "shared" / "realdata"
FEATURES = FOLDER / "coco500_clip_vitb16.npy"
STAMPS = FOLDER / "stamps"

needs_features = pytest.mark.skipif(
    not FEATURES.is_file(),
    reason="no real CLIP features: put those of 500 COCO pairs by ViT-B/16, an array (2, 500, 512) of images and "
    "first captions, at ../shared/realdata/coco500_clip_vitb16.npy",
)
needs_stamps = pytest.mark.skipif(
    not STAMPS.is_dir(),
    reason="no real pictures: put them in the README's layout into ../shared/realdata/stamps/data_dir and data_dir_sub",
)
