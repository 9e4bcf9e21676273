"""`i0t cutoff`: independent pairs of each kind, the promise on held-out halves, the program.

Run: python -m pytest tests/search/test_cutoff_command.py
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from i0t.commands.cutoff import main
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import conformal_cutoff
from i0t.metrics.resampling import random_split
from i0t.paths import REPO
from i0t.search import ScoreStandardizer
from i0t.search.calibration import IMAGE_TEXT, TEXT_TEXT, Scorer, pair_scores, rejection

REAL = REPO.parent / "shared" / "realdata" / "coco500_clip_vitb16.npy"


def paired(n: int, texts_each: int = 1, seed: int = 0) -> Embeddings:
    """Images, and texts near them, of unit length."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 12)) + 2
    texts = np.repeat(images, texts_each, axis=0) + 0.5 * rng.normal(size=(n * texts_each, 12)) - 3 * np.eye(12)[0]
    images, texts = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    owners = np.repeat(np.arange(n), texts_each)
    names = [str(row) for row in range(n)]
    return Embeddings(images.astype("float32"), texts.astype("float32"), owners, names, [""] * len(texts))


def unpaired(n: int, m: int) -> Embeddings:
    one, other = paired(n), paired(m, seed=1)
    return Embeddings(one.image_features, other.text_features, np.full(m, -1), one.image_ids, [""] * m)


class Recorder(Scorer):
    """Remembers which rows are scored with which."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def pairs(self, one, kind, other, other_kind):
        self.seen.append((kind, one, other_kind, other))
        return super().pairs(one, kind, other, other_kind)


def rows_of(vectors: np.ndarray, features: np.ndarray) -> list[int]:
    return [int(np.flatnonzero((features == vector).all(axis=1))[0]) for vector in vectors]


@pytest.mark.parametrize("embeddings", [paired(30), paired(31, 3), unpaired(20, 41)])
def test_every_item_is_in_one_unmatched_pair_at_most_and_no_pair_matches(embeddings):
    recorder = Recorder()
    pair_scores(embeddings, recorder, seed=2)
    features = {"image": embeddings.image_features, "text": embeddings.text_features}
    groups = {"image": np.arange(len(features["image"])), "text": embeddings.image_of_text}
    if not len(embeddings.pairs):
        groups["text"] = 1000 + np.arange(len(features["text"]))
    unmatched = [seen for seen in recorder.seen if len(seen[1]) < len(embeddings.image_features)]
    for kind, one, other_kind, other in unmatched[:3] if not len(embeddings.pairs) else unmatched:
        items = [*groups[kind][rows_of(one, features[kind])], *groups[other_kind][rows_of(other, features[other_kind])]]
        assert len(items) == len(set(items))
    expected = 20 if not len(embeddings.pairs) else len(embeddings.image_features) // 2
    assert len(pair_scores(embeddings, Scorer())[IMAGE_TEXT].unmatched) == expected


def test_matches_are_the_known_pairs_and_two_texts_of_one_image():
    embeddings = paired(20, 3)
    found = pair_scores(embeddings, Scorer())
    assert len(found[IMAGE_TEXT].matched) == 60 and len(found[TEXT_TEXT].matched) == 20
    cosines = np.einsum("nd,nd->n", np.repeat(embeddings.image_features, 3, axis=0), embeddings.text_features)
    np.testing.assert_allclose(np.sort(found[IMAGE_TEXT].matched), np.sort(cosines), atol=1e-6)
    assert found[IMAGE_TEXT].kept(np.median(cosines)) == 0.5
    same = {round(float(value), 5) for value in found[TEXT_TEXT].matched}
    texts = embeddings.text_features.reshape(20, 3, 12)
    possible = {round(float(one @ other), 5) for each in texts for one in each for other in each}
    assert same <= possible
    assert pair_scores(paired(20), Scorer())[TEXT_TEXT].matched is None


def test_rejection_is_measured_as_scikit_learn_measures_it():
    embeddings = paired(60)
    found = rejection(embeddings, Scorer(), seed=1)
    labels = np.repeat([0, 1], 60)
    assert found.auroc == pytest.approx(roc_auc_score(labels, np.concatenate([found.absent, found.present])))
    cosines = embeddings.text_features @ embeddings.image_features.T
    np.testing.assert_allclose(np.sort(found.present), np.sort(cosines.max(axis=1)), atol=1e-6)
    np.fill_diagonal(cosines, -1)
    np.testing.assert_allclose(np.sort(found.absent), np.sort(cosines.max(axis=1)), atol=1e-6)
    assert rejection(unpaired(9, 9), Scorer()) is None


@pytest.mark.skipif(not REAL.is_file(), reason="real CLIP embeddings are not at ../shared/realdata")
@pytest.mark.parametrize("form", [None, "constants", "adaptive"])
def test_the_promise_holds_on_held_out_halves_of_real_pairs(form):
    images, texts = np.load(REAL)
    shares = []
    for split in range(40):
        known, later = random_split(500, np.random.default_rng(split))
        standardizer = None
        if form:  # fitted to neither
            fitted, known = known[:50], known[50:]
            standardizer = ScoreStandardizer(form=form).fit({"image": images[fitted], "text": texts[fitted]})
        names = [str(row) for row in known]
        half = Embeddings(images[known], texts[known], np.arange(len(known)), names, [""] * len(known))
        cutoff = conformal_cutoff(pair_scores(half, Scorer(standardizer), split)[IMAGE_TEXT].unmatched, 0.05, 0.95)
        scores = images[later] @ texts[later].T
        if standardizer:
            scores = standardizer.scores(images[later], "image", texts[later], "text")
        shares.append((scores > cutoff)[~np.eye(len(later), dtype=bool)].mean())
    assert np.mean(np.array(shares) <= 0.05) >= 0.875  # 95 %, less two standard errors of 40 halves
    assert np.mean(shares) > 0.005


def test_program_prints_cutoffs_and_writes_scores_for_p_values(tmp_path, capsys):
    path = str(paired(300, 2).save(tmp_path / "pairs.safetensors"))
    out = tmp_path / "cutoffs.json"
    assert main([path, "--false-alarms", "0.05", "0.001", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not decidable" in printed and "needs 5990 items" in printed and "AUROC" in printed
    assert all(len(line) <= 110 for line in printed.splitlines()[:-1])
    content = json.loads(out.read_text())
    found = content["pairs"]["image-text"]
    assert len(found["unmatched"]) == 150 and found["cutoffs"][2]["cutoff"] is None
    assert found["cutoffs"][0]["cutoff"] == conformal_cutoff(np.array(found["unmatched"]), 0.05)


def test_program_with_scores_that_were_fitted_to_these_items(tmp_path, capsys):
    embeddings = paired(60)
    embeddings.save(tmp_path / "pairs.safetensors")
    ScoreStandardizer().fit_embeddings(embeddings).save(tmp_path / "scores.safetensors")
    flags = ["--scores", str(tmp_path / "scores.safetensors"), "--false-alarms", "0.1"]
    assert main([str(tmp_path / "pairs.safetensors"), *flags]) == 0
    captured = capsys.readouterr()
    assert "Standardised scores" in captured.out and "needs other items" in captured.err


def test_unpaired_arrays_and_too_few(tmp_path, capsys):
    np.save(tmp_path / "images.npy", unpaired(40, 9).image_features)
    np.save(tmp_path / "texts.npy", paired(70).text_features)
    files = [str(tmp_path / "images.npy"), str(tmp_path / "texts.npy")]
    assert main([*files, "--unpaired", "--false-alarms", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "40" in printed and "AUROC" not in printed
    assert main(files) == 2
    assert "do not pair up" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*files, "--unpaired", "--false-alarms", "5"])
    with pytest.raises(I0TError, match="too few"):
        pair_scores(paired(3), Scorer())
