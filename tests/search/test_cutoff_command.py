"""`i0t cutoff`: independent pairs of each kind, the promise on held-out halves, the program.

Run: python -m pytest tests/search/test_cutoff_command.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from i0t.commands.cutoff import main
from i0t.commands.scores import main as scores
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import conformal_cutoff
from i0t.metrics.resampling import random_split
from i0t.paths import REPO
from i0t.search import ScoreStandardizer
from i0t.search.calibration import IMAGE_TEXT, TEXT_TEXT, PairScores, Scorer, pair_scores, rejection

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
    assert found[IMAGE_TEXT].kept(np.median(cosines)).mean == 0.5
    same = {round(float(value), 5) for value in found[TEXT_TEXT].matched}
    texts = embeddings.text_features.reshape(20, 3, 12)
    possible = {round(float(one @ other), 5) for each in texts for one in each for other in each}
    assert same <= possible
    assert pair_scores(paired(20), Scorer())[TEXT_TEXT].matched is None


def test_rejection_is_measured_as_scikit_learn_measures_it():
    embeddings = paired(60)
    found = rejection(embeddings, Scorer(), seed=1)
    cosines = embeddings.text_features @ embeddings.image_features.T
    absent = [np.delete(row, place).max() for place, row in enumerate(cosines)]
    labels = np.repeat([0, 1], 60)
    assert found["auroc"].mean == pytest.approx(roc_auc_score(labels, [*absent, *cosines.max(axis=1)]))
    assert found["auroc"].low < found["auroc"].mean < found["auroc"].high
    assert set(found) == {"auroc", "let_through", "answered"}
    assert set(rejection(paired(30), Scorer())) == {"auroc"}  # 15 scores decide nothing at 5 %
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


def test_intervals_of_kept_matches_draw_whole_images():
    matched, images = np.repeat([0.0, 1.0], 60), np.repeat(np.arange(20), 6)
    alone = PairScores(np.zeros(9), 2, matched, np.arange(120)).kept(0.5)
    together = PairScores(np.zeros(9), 2, matched, images).kept(0.5)
    assert together.high - together.low == pytest.approx(np.sqrt(6) * (alone.high - alone.low), rel=0.15)


def test_items_that_the_scores_were_fitted_to_are_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embeddings = paired(90, 2)
    embeddings.save("pairs.safetensors")
    flags = ["pairs.safetensors", "--scores", "scores/scores.safetensors", "--false-alarms", "0.1"]
    assert scores(["pairs.safetensors", "--hold-out", "0.5", "--output", "scores"]) == 0
    fitted = ScoreStandardizer.load("scores/scores.safetensors")
    assert fitted.counts == {"image": 45, "text": 90}  # an image and its texts together
    others = embeddings.subset(*(~rows for rows in fitted.fitted_rows(embeddings)))
    assert (len(others.image_features), len(others.pairs)) == (45, 90) and not fitted.overlap(others)
    rows = [embeddings.image_ids.index(name) for name in others.image_ids]
    np.testing.assert_array_equal(others.image_features, embeddings.image_features[rows])
    texts = np.isin(embeddings.image_of_text, rows)
    np.testing.assert_array_equal(others.text_features, embeddings.text_features[texts])
    np.testing.assert_array_equal(np.array(rows)[others.image_of_text], embeddings.image_of_text[texts])
    capsys.readouterr()
    assert main([*flags, "--json", "out.json"]) == 0
    captured = capsys.readouterr()
    assert "fitted to 45 of these 90 images and 90 of 180 texts; the cutoffs are from the others" in captured.err
    expected = pair_scores(others, Scorer(fitted))[IMAGE_TEXT].unmatched
    assert json.loads(Path("out.json").read_text())["pairs"]["image-text"]["unmatched"] == sorted(expected.tolist())
    assert scores(["pairs.safetensors", "--output", "scores"]) == 0
    assert main(flags) == 2
    assert "fitted to 90 of these 90 images and 180 of 180 texts; too few others for a" in capsys.readouterr().err


def test_arrays_that_do_not_pair_up_hold_out_the_same_rows(tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("images.npy", "texts.npy")]
    for path, features in zip(files, (paired(40).image_features, paired(60).text_features)):
        np.save(path, features)
    assert scores([*files, "--hold-out", "0.25", "--form", "constants", "--output", str(tmp_path / "out")]) == 0
    fitted = ScoreStandardizer.load(tmp_path / "out/scores.safetensors")
    left_out = np.random.default_rng(0).permutation(60)[:15]
    assert fitted.counts == {"image": 40 - np.sum(left_out < 40), "text": 45}


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


def test_scores_of_other_kinds_are_refused(tmp_path, capsys):
    given = paired(40)
    source, scores_file = given.save(tmp_path / "p.safetensors"), tmp_path / "s.safetensors"
    ScoreStandardizer().fit({"image": given.image_features, "audio": given.text_features}).save(scores_file)
    assert main([str(source), "--scores", str(scores_file)]) == 2
    assert "scores: 0 text vectors are fitted (kinds: image, audio)" in capsys.readouterr().err
