"""The drop-in for pacscore's file: hand-worked scores, its contract, I0T-S, bad input, the original's own figures.

Run: python -m pytest tests/test_pac_score.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from parity_fixture import Fixture
from PIL import Image
from torchvision.transforms.functional import to_tensor

from baselines import clip_family
from evaluation import correlation
from evaluation.pac_score import PACScore, RefPACScore
from i0t import I0TError, Standardizer, load_encoder
from i0t.data.datasets import load_dataset
from i0t.metrics import correlation_metrics
from i0t.metrics.caption_scores import SCORES
from i0t.paths import REPO

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
ROOT2 = 2**0.5
START, END = 49406, 49407


class ColourModel(torch.nn.Module):
    """Encodes an image by its mean colour and a caption by the colours it names, negative after "no"."""

    context_length = 77

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.patches.weight.data = torch.eye(3)[:, :, None, None]
        self.ids = {word: open_clip.SimpleTokenizer().encode(word)[0] for word in (*COLOURS, "no")}
        self.pixels, self.tokens = [], []

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to (B, 3)."""
        self.pixels.append(pixels)
        return 7 * self.patches(pixels).mean(dim=(2, 3))  # not normalised

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L) to (B, 3)."""
        self.tokens.append(tokens)
        named = torch.stack([(tokens == self.ids[word]).any(1) for word in COLOURS], dim=1).float()
        return 3 * torch.where((tokens == self.ids["no"]).any(1, keepdim=True), -named, named)


@pytest.fixture
def model() -> ColourModel:
    return ColourModel().eval()


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    """One plain image per colour; red is a palette image."""
    for name, colour in COLOURS.items():
        picture = Image.new("RGB", (8, 6), colour)
        (picture.quantize(2) if name == "red" else picture).save(tmp_path / f"{name}.png")
    return {name: str(tmp_path / f"{name}.png") for name in COLOURS}


@pytest.fixture
def rated(pictures) -> tuple[list[str], list[str]]:
    """Cosines 1, 1/sqrt(2), 0, -1, and the second again."""
    images = [pictures[name] for name in ("red", "red", "green", "blue", "red")]
    return images, ["A red ball", "red, blue", "a red one", "no blue here at all", "red, blue"]


# --- what is computed ------------------------------------------------------------------------


def test_hand_worked_scores_and_the_contract(model, rated):
    mean, scores, features, lengths = PACScore(model, to_tensor, *rated, "cpu", w=2.0)
    np.testing.assert_allclose(scores, [2, ROOT2, 0, 0, ROOT2], atol=1e-6)
    assert isinstance(mean, np.float32) and mean == pytest.approx((2 + 2 * ROOT2) / 5)
    assert scores.dtype == features.dtype == np.float32
    assert (scores.shape, features.shape) == ((5,), (5, 3))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    assert lengths == [3, 2, 3, 5, 2] and all(type(length) is int for length in lengths)
    np.testing.assert_allclose(PACScore(model, to_tensor, *rated, "cpu", w=2.5)[1], 1.25 * scores, rtol=1e-6)


def test_equal_rows_get_equal_bits_and_each_item_is_encoded_once(model, rated):
    images, candidates = (column * 40 for column in rated)  # several batches if it did not
    _, scores, features, _ = PACScore(model, to_tensor, images, candidates, "cpu")
    assert (scores.reshape(40, 5) == scores[:5]).all() and scores[1] == scores[4]
    assert (features.reshape(40, 5, 3) == features[:5]).all()
    assert sum(map(len, model.pixels)) == 3 and sum(map(len, model.tokens)) == 4
    _, per = RefPACScore(model, [["red", "no red"]] * 200, features, "cpu")
    assert len(set(per)) == len(set(per[:5])) and sum(map(len, model.tokens)) == 6


def test_references_take_the_best_neither_scaled_nor_clipped(model):
    references = [["blue", "red green"], ["red"], ["no red", "no red green", "no green"]]
    candidates = ["red ball", "no red", "red"]
    mean, per = RefPACScore(model, references, candidates, "cpu", torch.tensor([2, 2, 1]))
    assert per == pytest.approx([1 / ROOT2, -1, 0], abs=1e-6)
    assert type(per) is list and isinstance(mean, np.float32) and mean == pytest.approx(np.mean(per))
    features = PACScore(model, to_tensor, np.eye(3, dtype=np.float32), candidates, "cpu")[2]
    assert RefPACScore(model, references, features, "cpu", [2, 2, 1])[1] == per


def test_clients_formula_is_ours(model, rated):
    """The scripts of pacscore combine the two values themselves."""
    _, scores, features, lengths = PACScore(model, to_tensor, *rated, "cpu")
    _, per = RefPACScore(model, [["red"], ["blue"], ["red"], ["blue red"], ["red"]], features, "cpu", lengths)
    with np.errstate(invalid="ignore"):
        combined = 2 * scores * per / (scores + per)
    np.testing.assert_allclose(combined, SCORES["pac_s"].with_references(scores, np.array(per)), rtol=1e-6)
    np.testing.assert_allclose(combined[:2], [4 / 3, 2 / (1 / ROOT2 + ROOT2)], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, torch.float32])
def test_image_features_instead_of_paths(model, rated, kind):
    wanted = PACScore(model, to_tensor, *rated, "cpu")
    features = np.array([[2, 0, 0], [1, 0, 0], [0, 5, 0], [0, 0, 1], [3, 0, 0]])
    given = torch.tensor(features, dtype=kind) if isinstance(kind, torch.dtype) else features.astype(kind)
    scores = PACScore(model, None, given, rated[1], "cpu")[1]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, wanted[1], atol=1e-6)
    assert len(model.pixels) == 1


def test_prefix_and_end_token_of_long_texts(model, pictures):
    long = "red " + "ball " * 200
    PACScore(model, to_tensor, [pictures["red"]], [long], "cpu")
    tokens = model.tokens[0]
    assert tokens.shape == (1, 77) and tokens[0, 0] == START and tokens[0, -1] == END
    prefix = open_clip.SimpleTokenizer().encode("a photo depicts red ball")
    assert tokens[0, 1:6].tolist() == prefix
    model.context_length = 20
    RefPACScore(model, [[long]], [long], "cpu")
    assert model.tokens[-1].shape == (1, 20) and model.tokens[-1][0, -1] == END


def test_without_transform_clips_own_is_used(model, pictures):
    PACScore(model, None, [Path(pictures["green"])], ["green"], "cpu")
    assert model.pixels[0].shape == (1, 3, 224, 224)
    wanted = (torch.tensor([0.0, 1.0, 0.0]) - torch.tensor([0.481, 0.458, 0.408])) / torch.tensor([0.269, 0.261, 0.276])
    torch.testing.assert_close(model.pixels[0].mean((0, 2, 3)), wanted, atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(model, rated, dtype):
    """Pixels are cast to what the first convolution needs; the scores are float32 all the same."""
    model.patches.to(dtype)
    scores = PACScore(model, to_tensor, *rated, "cpu")[1]
    assert model.pixels[0].dtype == dtype and scores.dtype == np.float32
    np.testing.assert_allclose(scores, [2, ROOT2, 0, 0, ROOT2], atol=1e-2)


# --- I0T-S -----------------------------------------------------------------------------------


@pytest.fixture
def standardizer() -> Standardizer:
    rng = np.random.default_rng(0)
    return Standardizer().fit(
        rng.normal([1, 0, 0], 1, (50, 3)), rng.normal([0, 1, 0], 1, (50, 3)), {"model": "colours"}
    )


def test_i0t_s_is_the_plain_cosine_of_standardised_features(model, rated, standardizer, tmp_path, monkeypatch, capsys):
    plain = PACScore(model, to_tensor, *rated, "cpu")
    _, scores, features, _ = PACScore(model, to_tensor, *rated, "cpu", w=2.0, standardizer=standardizer)
    images = np.eye(3)[[0, 0, 1, 2, 0]]
    moved = [standardizer.transform_image(images), standardizer.transform_text(plain[2].astype(np.float64))]
    np.testing.assert_allclose(scores, SCORES["i0t_s"].reference_free(*moved), atol=1e-6)
    assert scores.min() < 0 and (features == plain[2]).all()  # not clipped; features as encoded
    assert capsys.readouterr().err == ""

    references = [["red", "blue"]] * 5
    mean, per = RefPACScore(model, references, features, "cpu", standardizer=standardizer)
    own = standardizer.transform_text(np.eye(3)[[0, 2]])
    np.testing.assert_allclose(per, (moved[1] @ own.T).max(axis=1), atol=1e-6)

    monkeypatch.setenv("I0T_MEANS", str(standardizer.save(tmp_path / "means.safetensors")))
    assert (PACScore(model, to_tensor, *rated, "cpu")[1] == scores).all()
    assert RefPACScore(model, references, rated[1], "cpu") == (mean, per)
    said = capsys.readouterr().err
    assert "PAC-S is I0T-S here" in said and "RefPAC-S means nothing" in said and "colours" in said
    monkeypatch.setenv("I0T_MEANS", "")
    assert (PACScore(model, to_tensor, *rated, "cpu")[1] == plain[1]).all()


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "candidates", "message"),
    [
        (["red"], ["red", "blue"], "1 images for 2 candidates"),
        (np.eye(3)[:2], ["red"], "2 images for 1 candidates"),
        (["red"], "red", "candidates: expected a list"),
        ("red", ["red"], "images: expected a list"),
        ([], [], "candidates: expected a list that is not empty"),
        (["red"], [None], "candidates: entry 0 is None, expected str"),
        ([3], ["red"], "images: entry 0 is 3, expected str or Path"),
        (["nowhere.png"], ["red"], "nowhere.png: missing or unreadable"),
        ([__file__], ["red"], "missing or unreadable"),
        (np.ones(3), ["red"], r"images: expected \(N, D\) features"),
        (np.ones((1, 3), int), ["red"], "features, got int"),
        (np.full((1, 3), np.nan), ["red"], "images: row 0 holds NaN"),
        (["red"], ["grey"], "texts: row 0 has zero length"),
    ],
)
def test_bad_input_is_reported(model, pictures, images, candidates, message):
    images = [pictures.get(item, item) for item in images] if isinstance(images, list) else images
    with pytest.raises(I0TError, match=message):
        PACScore(model, to_tensor, images, candidates, "cpu")


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        ([["red"]], ["red", "blue"], "1 lists of references for 2 candidates"),
        ([["red"], []], ["red", "blue"], "references of candidate 1: expected a list that is not empty"),
        (["red"], ["red"], "references of candidate 0: expected a list"),
        ([["red", 3]], ["red"], "references of candidate 0: entry 1 is 3"),
        ([["red"]], np.zeros((1, 3)), "candidates: row 0 has zero length"),
    ],
)
def test_bad_references_are_reported(model, references, candidates, message):
    with pytest.raises(I0TError, match=message):
        RefPACScore(model, references, candidates, "cpu")


def test_bad_means_are_reported(model, rated, monkeypatch, tmp_path):
    wide = Standardizer().fit(np.eye(4), np.eye(4)[::-1])
    with pytest.raises(I0TError, match="3 dimensions, expected 4"):
        PACScore(model, to_tensor, *rated, "cpu", standardizer=wide)
    monkeypatch.setenv("I0T_MEANS", str(tmp_path / "none.safetensors"))
    with pytest.raises(I0TError, match="I0T_MEANS: .*none.safetensors: no such file"):
        PACScore(model, to_tensor, *rated, "cpu")


# --- beside other code -----------------------------------------------------------------------


def test_works_as_a_copy_in_the_clone(tmp_path):
    """Where pacscore's own packages are called `evaluation`, too."""
    package = tmp_path / "evaluation" / "pac_score"
    package.mkdir(parents=True)
    shutil.copy(REPO / "evaluation" / "pac_score.py", package)
    (package / "__init__.py").write_text("from .pac_score import PACScore, RefPACScore\n")
    (package.parent / "__init__.py").write_text("from .pac_score import PACScore, RefPACScore\n")
    code = "import sys, evaluation; print(sys.modules[evaluation.PACScore.__module__].__file__)"
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == package / "pac_score.py"


@pytest.mark.parametrize("score", ["pac_s", "i0t_s"])
def test_our_own_loader_gives_the_same_figures(configs, sample_roots, tmp_path, monkeypatch, score):
    """`evaluation.correlation` with the same weights, ratings and means."""
    flags = ["--score", score, "--remove-gap", "i0t_post"][: 2 if score == "pac_s" else 4]
    out = ["--output", str(tmp_path / "out"), "--workers", "0", "--dataset", "flickr8k_expert", "--seed", "3"]
    assert correlation.main(["--model", "tiny", *flags, *out]) == 0
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    if score == "i0t_s":
        monkeypatch.setenv("I0T_MEANS", str(next((tmp_path / "out").glob("*.means.safetensors"))))

    torch.manual_seed(3)
    encoder, judged = load_encoder("tiny"), load_dataset("flickr8k_expert", sample_roots)
    images = [str(judged.images[row]) for row in judged.image_of_rating]
    references = [judged.references[row] for row in judged.image_of_rating]
    _, scores, features, lengths = PACScore(encoder.model, encoder.preprocess, images, judged.candidates, "cpu")
    _, per = RefPACScore(encoder.model, references, features, "cpu", torch.tensor(lengths))
    metrics = correlation_metrics(scores, judged.ratings)
    metrics |= correlation_metrics(SCORES[score].with_references(scores, np.array(per)), judged.ratings, prefix="ref_")
    # Other batches round differently, which may swap two scores; one pair of these few ratings is 0.02.
    assert metrics == pytest.approx(record["metrics"], abs=0.1)


def test_scores_of_the_original_code(tmp_path):
    """Results of pacscore's own file for the same weights, images and captions."""
    fixture = Fixture.read("pacscore")
    encoder = clip_family.load("pacscore", fixture.save(tmp_path / "clip_ViT-B-32.pth"), layout="openai")
    paths = [tmp_path / f"{row}.png" for row in range(4)]
    for path, picture in zip(paths, fixture.pictures, strict=True):
        picture.save(path)
    images = [str(paths[row]) for row in fixture.arrays["score_images"]]
    mean, scores, features, lengths = PACScore(
        encoder.model, encoder.preprocess, images, fixture.captions, "cpu", w=2.0
    )
    np.testing.assert_allclose(scores, fixture.arrays["pac_scores"], atol=1e-5)
    assert mean == pytest.approx(float(fixture.arrays["pac_mean"]), abs=1e-5)
    np.testing.assert_allclose(features, fixture.arrays["candidate_features"], atol=1e-5)
    assert lengths == fixture.arrays["candidate_lengths"].tolist()
    for candidates in (features, fixture.captions):
        mean, per = RefPACScore(encoder.model, fixture.spec["references"], candidates, "cpu", torch.tensor(lengths))
        np.testing.assert_allclose(per, fixture.arrays["ref_scores"], atol=1e-5)
        assert mean == pytest.approx(float(fixture.arrays["ref_mean"]), abs=1e-5)
    combined = SCORES["pac_s"].with_references(scores, np.array(per))
    np.testing.assert_allclose(combined, fixture.arrays["refpac_scores"], atol=1e-5)
