"""z_score, whitening and the running standardiser: formulas, exact merging, files, refusals, real numbers.

Run: python -m pytest tests/test_removers.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from real_data import needs_features
from safetensors.numpy import load_file
from sklearn.covariance import oas
from sklearn.preprocessing import StandardScaler

from baselines.mind_the_gap import MindTheGap
from i0t import Embeddings, I0TError, RunningStandardizer, Standardizer, Whitening, ZScore
from i0t.commands.apply import main as apply
from i0t.commands.standardize import main as standardize
from i0t.features import to_numpy
from i0t.gap import centroid_distance
from i0t.origin import Origin
from i0t.standardize.fitting import fit_remover
from i0t.standardize.registry import RemoverChoice, load_remover
from i0t.standardize.second_moments import oas_shrinkage

KINDS = (ZScore, Whitening, RunningStandardizer)
AFFINE = (ZScore(), Whitening(0.5), Whitening(None))


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def features(seed: int, n: int = 60, m: int = 80, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Images and texts with a gap and with dimensions of unequal spread."""
    rng = np.random.default_rng(seed)
    spread, offset = np.linspace(0.2, 2, dim), 2 * np.eye(dim)[0]
    return rng.normal(size=(n, dim)) * spread + offset, rng.normal(size=(m, dim)) * spread - offset


def embeddings(seed: int, **metadata: object) -> Embeddings:
    images, texts = (side.astype(np.float32) for side in features(seed, 60, 60))
    names = [f"{seed}-{row}" for row in range(60)]
    return Embeddings(images, texts, np.arange(60), names, names, metadata=metadata)


# --- formulas --------------------------------------------------------------------------------


def test_z_score_hand_worked():
    """Unit vectors (.6, .8), (.8, .6): mean (.7, .7), deviation (.1, .1); (1, 0) goes to (3, -7) / sqrt(58)."""
    remover = ZScore().fit(np.array([[6.0, 8.0], [4.0, 3.0]]), np.eye(2))
    moved = remover.transform_image(np.array([[5.0, 0.0]]))
    assert moved == pytest.approx(np.array([[3, -7]]) / np.sqrt(58))


def test_z_score_is_sklearns_scaler():
    fit, test = features(0), features(1)
    remover = ZScore().fit(*fit)
    for fitted, given, transform in zip(fit, test, (remover.transform_image, remover.transform_text), strict=True):
        expected = StandardScaler().fit(unit(fitted)).transform(unit(given))
        assert transform(given) == pytest.approx(unit(expected), abs=1e-12)


def test_constant_dimension_is_dropped():
    images = features(2)[0]
    images[:, 3] = 0.0
    moved = ZScore().fit(images, images).transform_image(features(3)[0])
    assert (moved[:, 3] == 0).all() and np.isfinite(moved).all()


def test_whitening_whitens():
    """Without shrinkage, and before the vectors are normalised again, the covariance is the identity's multiple."""
    images, texts = features(4)
    remover = Whitening(0.0).fit(images, texts)
    factor, bias = remover.affine("image")
    white = unit(images) @ factor.T + bias
    covariance = np.cov(white.T)
    assert covariance / covariance[0, 0] == pytest.approx(np.eye(6), abs=1e-9)
    assert factor == pytest.approx(factor.T)


def test_shrinkage_of_one_is_centring():
    fit, test = features(5), features(6)
    centred = Standardizer().fit(*fit).transform_text(test[1])
    assert Whitening(1.0).fit(*fit).transform_text(test[1]) == pytest.approx(centred, abs=1e-12)


@pytest.mark.parametrize("n", [10, 60, 4000])
def test_oas_is_sklearns(n):
    images = unit(features(7, n=n)[0])
    covariance = np.cov(images.T, ddof=0)
    assert oas_shrinkage(covariance, n) == pytest.approx(oas(images)[1], rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_comes_out_as_it_went_in(kind, dtype):
    images, texts = features(9)
    remover = kind().fit(images, texts)
    given = torch.from_numpy(images).to(dtype).reshape(20, 3, 6)
    moved = remover.transform_image(given)
    assert moved.dtype == dtype and moved.shape == given.shape
    expected = remover.transform_image(to_numpy(given).astype(float))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]
    assert to_numpy(moved).astype(float) == pytest.approx(expected, abs=tolerance)


# --- exact merging, files --------------------------------------------------------------------


def test_what_is_added_after_transforming_counts():
    """The factor is kept until the next fit."""
    images, texts = features(11)
    remover = ZScore().fit(images[:30], texts)
    remover.transform_image(images)
    remover.partial_fit(images[30:])
    whole = ZScore().fit(images, texts)
    assert remover.transform_image(images) == pytest.approx(whole.transform_image(images), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load_lose_nothing(kind, tmp_path):
    images, texts = features(12)
    remover = kind().fit(images, texts, {"model": "tiny"})
    if kind is RunningStandardizer:
        remover.update(texts[:5])
    loaded = kind.load(remover.save(tmp_path / "fitted.safetensors"))
    assert loaded.parameters() == remover.parameters() and loaded.origin == Origin(model="tiny")
    assert loaded.fingerprint == remover.fingerprint
    assert np.array_equal(loaded.transform_image(images), remover.transform_image(images))


def test_means_alone_do_not_make_a_z_score(tmp_path):
    images, texts = features(13)
    path = Standardizer().fit(images, texts).save(tmp_path / "means.safetensors")
    with pytest.raises(I0TError, match=r"means\.safetensors: holds no sum of squares.*Fit it again, as z_score"):
        ZScore.load(path)
    richer = Whitening().fit(images, texts).save(tmp_path / "white.safetensors")
    assert np.array_equal(Standardizer.load(richer).image_mean_, Standardizer().fit(images, texts).image_mean_)
    assert load_file(richer)["image_product_sum"].shape == (6, 6)


def test_fingerprint_tells_spread_apart():
    """Equal means but different variances: not the same standardiser."""
    rows = np.array([[0.6, 0.8], [0.6, -0.8]])
    wide = np.array([[0.6, 0.8], [0.6, -0.8], [0.6, 0.8], [0.6, -0.8]])
    assert ZScore().fit(rows, rows).fingerprint != ZScore().fit(wide, rows).fingerprint


@pytest.mark.parametrize("remover", AFFINE, ids=repr)
def test_too_little_to_learn_from(remover):
    one = np.eye(6)[:1]
    with pytest.raises(I0TError, match="one image vector has no spread"):
        remover.fit(one, one).transform_image(features(0)[0])
    with pytest.raises(I0TError, match="all 4 fitted image vectors are equal"):
        remover.fit(np.tile(one, (4, 1)), one).transform_image(features(0)[0])
    with pytest.raises(I0TError, match="no image mean yet"):
        type(remover)().transform_image(one)


def test_bad_parameters():
    for bad in (-0.1, 1.1):
        with pytest.raises(I0TError, match="outside 0..1"):
            Whitening(bad)
    with pytest.raises(I0TError, match="not a positive number"):
        RunningStandardizer(0)


# --- provenance ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Standardizer, *KINDS])
def test_another_model_or_dimension_is_refused(kind, tmp_path):
    fitted = kind().fit_embeddings(embeddings(0, model="clip", fingerprint="aa"))
    fitted = kind.load(fitted.save(tmp_path / "fitted.safetensors"))
    moved = fitted.transform_embeddings(embeddings(1, model="a copy of clip", fingerprint="aa"))
    assert moved.metadata["gap_removed"]["remover"] == kind.name
    assert moved.metadata["gap_removed"]["provenance"]["data_sha256"] == fitted.origin.data_sha256
    with pytest.raises(I0TError, match="belong to model clip.*the embeddings to model longclip"):
        fitted.transform_embeddings(embeddings(1, model="longclip", fingerprint="bb"))
    with pytest.raises(I0TError, match="model clip"):  # no fingerprint: names decide
        fitted.transform_embeddings(embeddings(1, model="longclip"))
    names = ["a"] * 2
    with pytest.raises(I0TError, match="6 dimensions, the embeddings 2"):
        fitted.transform_embeddings(Embeddings(np.eye(2), np.eye(2), np.arange(2), names, names))


def test_merged_parts_must_all_be_of_the_model():
    parts = [Standardizer().fit_embeddings(embeddings(seed, model=name)) for seed, name in ((0, "clip"), (1, "other"))]
    with pytest.raises(I0TError, match="belong to model other"):
        parts[0].merge(parts[1]).transform_embeddings(embeddings(2, model="clip"))


def test_names_of_files_are_no_models():
    fitted = Standardizer().fit_embeddings(embeddings(0, model="train", model_is_file_name=True))
    assert fitted.origin.model is None
    fitted.transform_embeddings(embeddings(1, model="test", model_is_file_name=True))


# --- the running standardiser ----------------------------------------------------------------


def test_before_the_stream_it_is_i0t_post():
    fit, test = features(14), features(15)
    prior = Standardizer().fit(*fit, {"model": "tiny"})
    running = RunningStandardizer.starting_from(prior)
    assert running.transform_image(test[0][:1]) == pytest.approx(prior.transform_image(test[0][:1]))
    assert running.weight("image") == 0 and running.origin == prior.origin
    before = running.fingerprint
    running.transform_image(test[0])
    assert running.fingerprint == before  # transforming teaches nothing
    assert running.update(test[0]).fingerprint != before


def test_given_kappa_is_hand_worked():
    """Three stream vectors at kappa 1 weigh 3 / 4: mean = 1/4 (1, 0) + 3/4 (0, 1)."""
    running = RunningStandardizer(kappa=1).fit(np.eye(2)[:1], np.eye(2)[:1]).update(np.eye(2)[[1, 1, 1]])
    assert running.image_mean_ == pytest.approx([0.25, 0.75])
    assert running.text_mean_ == pytest.approx([1, 0])


def test_estimated_kappa_is_variance_over_squared_shift():
    """Naive: V = 1 - |mean|^2 unbiased, d^2 = |difference|^2 - V / n, held back by 1 - 1 / n."""
    fit, stream = features(16), features(17, n=40)[1]
    running = RunningStandardizer().fit(*fit).update(stream)
    u, mean = unit(stream), unit(stream).mean(axis=0)
    n = len(stream)
    variance = np.sum((u - mean) ** 2) / (n - 1)
    shift = (np.sum((mean - unit(fit[0]).mean(axis=0)) ** 2) - variance / n) * (1 - 1 / n)
    assert running.kappa_("image") == pytest.approx(variance / shift)
    assert running.weight("image") == pytest.approx(n / (n + variance / shift))


def test_without_a_shift_the_two_samples_pool():
    """The stream equals the training set, so its weight is one half."""
    images, texts = features(18)
    running = RunningStandardizer().fit(images, texts).update(images, texts)
    assert running.kappa_("image") == pytest.approx(60) and running.weight("text") == pytest.approx(0.5)
    assert RunningStandardizer().fit(images, texts).update(images[:1]).kappa_("image") == 60


def test_streams_merge_and_refuse_other_training():
    fit, stream = features(19), features(20)
    whole = RunningStandardizer().fit(*fit).update(*stream)
    parts = [
        RunningStandardizer().fit(*fit).update(stream[0][part], stream[1][part]) for part in (slice(9), slice(9, 99))
    ]
    assert parts[0].merge(parts[1]).image_mean_ == pytest.approx(whole.image_mean_, abs=1e-14)
    with pytest.raises(I0TError, match="started from other image means"):
        whole.merge(RunningStandardizer().fit(*stream))
    assert whole.fit(*fit).weight("image") == 0  # fit forgets the stream


def test_a_stream_is_not_left_out_in_silence(tmp_path, capsys):
    """Means that were updated with a stream belong to this class only."""
    fit, stream = features(19), features(20)
    path = tmp_path / "running.safetensors"
    running = RunningStandardizer().fit(*fit)
    loaded = Standardizer.load(running.save(path))  # before any stream they are the same
    assert loaded.image_mean_ == pytest.approx(running.image_mean_)
    running.update(stream[0]).save(path)
    for other in (Standardizer, ZScore, Whitening, MindTheGap):
        with pytest.raises(I0TError, match=f"60 vectors of a stream, which {other.__name__} .* RunningStandardizer"):
            other.load(path)
    for found in (RunningStandardizer.load(path), load_remover(path)):
        assert isinstance(found, RunningStandardizer) and found.fingerprint == running.fingerprint

    rows = [str(tmp_path / name) for name in ("images.npy", "texts.npy")]
    for name, side in zip(rows, stream, strict=True):
        np.save(name, side)
    moving = [*rows, "--fit-on", str(path), "--remover", "i0t_post", "--output", str(tmp_path / "out")]
    assert apply(moving) == 2 and "Load it with RunningStandardizer" in capsys.readouterr().err
    with pytest.raises(I0TError, match="Load it with RunningStandardizer"):
        fit_remover(RemoverChoice("i0t_post"), str(path), embeddings(0))
    shards = ["apply", str(path), "--images", rows[0], "--output", str(tmp_path / "moved"), "--jobs", "1"]
    assert standardize(shards) == 0
    moved = np.load(tmp_path / "moved" / tmp_path.name / "images.npy")
    assert moved == pytest.approx(running.transform_image(stream[0]))


def test_a_refused_stream_teaches_nothing():
    fit = features(21)
    running = RunningStandardizer().fit(*fit)
    before = running.fingerprint
    bad = features(22)[1]
    bad[3] = np.nan
    with pytest.raises(I0TError, match="text_features: row 3"):
        running.update(features(22)[0], bad)
    with pytest.raises(I0TError, match="5 dimensions, expected 6"):
        running.update(fit[0][:, :5])
    assert running.fingerprint == before


# --- real features ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def splits() -> list[dict[str, float]]:
    """One row per split and method of `benchmarks.standardizers`."""
    from benchmarks import standardizers

    return standardizers.split_rows(
        standardizers.real_features(Path(__file__)), n_splits=20, methods=("i0t_post", "z_score", "whitening")
    )


@needs_features
def test_real_numbers(splits):
    """Means from 250 pairs, tested on the other 250, average of 20 splits."""
    mean = {name: {key: np.mean([row[name][key] for row in splits]) for key in splits[0][name]} for name in splits[0]}
    raw = mean["raw"]
    assert raw["auc"] < 0.02 and raw["cd"] > 0.8
    assert mean["i0t_post"]["cd"] <= 0.13
    for name in ("i0t_post", "z_score", "whitening"):
        assert mean[name]["auc"] >= 0.94
        for recall in ("i2t_r1", "t2i_r1"):
            assert mean[name][recall] >= raw[recall] - 4


@needs_features
def test_real_stream():
    """A prior from other content: below the prior and below the samples alone, at 32 and at 256 samples."""
    from benchmarks import standardizers

    images, texts = standardizers.real_features(Path(__file__))
    found = standardizers.stream_rows((images, texts), counts=(0, 32, 256), n_splits=12)
    mean = {n: np.mean([row[n] for row in found], axis=0) for n in (0, 32, 256)}
    prior, _, running = mean[0]
    assert running == pytest.approx(prior)  # nothing has arrived yet
    for n in (32, 256):
        prior, samples, running = mean[n]
        assert running < prior and running < samples
    assert centroid_distance(images, texts) > 4 * mean[256][2]
