"""`i0t score`: lists of pairs, calibration, scores by their formulas, resuming after an interruption, the program.

Run: python -m pytest tests/test_score_command.py
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import percentileofscore

from i0t import Encoder, load_encoder
from i0t.commands import score as program
from i0t.embeddings import Embeddings
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import EncodedImages, EncodedTexts
from i0t.errors import I0TError, NoPictureError
from i0t.scoring import PairScorer, ScoredPair, calibrate, models, percentiles, read_pairs, resume
from i0t.scoring.output import scores_table, write_csv
from i0t.scoring.pairs import all_pairs
from i0t.scoring.scorer import PERCENTILES, SCORE_NAMES
from i0t.standardize import Standardizer

DIM = 8


# --- lists ----------------------------------------------------------------------------------

LISTED = [
    ScoredPair(("/p/a.jpg",), ("a dog",), ("one", "two")),
    ScoredPair((), ("a dog", "a cat")),
    ScoredPair(("/p/a.jpg", "/p/b.jpg"), ()),
]


def test_csv_and_json_lists_read_alike(tmp_path):
    (tmp_path / "list.csv").write_text(
        "image,caption,other_image,other_caption,references\n"
        'a.jpg, a dog ,,,"[""one"", ""two""]"\n'
        ",a dog,,a cat,\n"
        "a.jpg,,b.jpg,,\n"
    )
    rows = [
        {"image": "a.jpg", "caption": "a dog", "references": ["one", "two"]},
        {"caption": "a dog", "other_caption": "a cat"},
        {"image": "a.jpg", "other_image": "b.jpg"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    assert read_pairs(tmp_path / "list.csv", "/p") == read_pairs(tmp_path / "list.json", "/p") == LISTED
    assert [pair.kind for pair in LISTED] == ["image-text", "text-text", "image-image"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,words\na.jpg,b\n", "its first line names none of the columns"),
        ("image,caption\n", "no row to score"),
        ("", "is empty. Columns: image and caption"),
        ("image;caption\na.jpg;a dog, asleep\n", "line 1: its columns are parted by semicolons. Save it with commas"),
        ("image\tcaption\na.jpg\tx\n", "line 1: its columns are parted by tabs"),
        ("image,caption\na.jpg,b\nc.jpg,\n", "row 2 .line 3.: 1 images and 0 texts"),
        ('image,caption,references\na.jpg,b,"[1, 2]"\n', "row 1 .line 2.: references is"),
        ('image,caption,references\na.jpg,b,"[oops"\n', "row 1 .line 2.: not valid JSON .references"),
        ("image,caption\n\na.jpg,a dog, asleep\n", "line 3: 3 cells, but line 1 names 2 columns. Quote a text"),
        ("image,caption,\na.jpg,a dog, asleep\n", "line 2: 3 cells, but line 1 names 2 columns. Quote a text"),
        ("image,caption,other_image\na.jpg,a dog\n", "line 2: 2 cells, but line 1 names 3 columns"),
        (
            'image,caption\na.jpg,"a\ndog"\nb.jpg,"a cat\nc.jpg,x\n',
            "begins in line 4 is not CSV .* Close each",
        ),
        ('image,caption\na.jpg,"a dog\nb.jpg,"a cat"\n', "row that begins in line 2 is not CSV"),
        ("image,caption,caption\na.jpg,x,y\n", "line 1: column 'caption' stands there twice"),
        ("image,caption,reference\na.jpg,x,y\n", "line 1: unknown column 'reference'. Write references"),
        ("Image,Caption\na.jpg,x\n", "line 1: unknown column 'Image'. Write image"),
        (",image,caption\n0,a.jpg,x\n", "line 1 does not name its first column"),
        ("image,caption\na.jpg,\u200b\n", "row 1 .line 2.: caption is .*nothing of it shows"),
    ],
)
def test_bad_lists_name_the_row(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(I0TError, match=message):
        read_pairs(path)


def test_blank_before_a_quote_is_no_part_of_the_text(tmp_path):
    (tmp_path / "list.csv").write_text('image, caption\na.jpg, "a dog, asleep"\n')
    assert read_pairs(tmp_path / "list.csv", "/p") == [ScoredPair(("/p/a.jpg",), ("a dog, asleep",))]


@pytest.mark.parametrize("wrong", [{"image": 0}, {"other_caption": False}, {"references": {}}, {"references": 0}])
def test_values_that_python_takes_for_nothing_are_refused(tmp_path, wrong):
    (tmp_path / "list.json").write_text(json.dumps([{"image": "a.jpg", "caption": "a dog", **wrong}]))
    with pytest.raises(I0TError, match=f"row 1: {next(iter(wrong))} is "):
        read_pairs(tmp_path / "list.json")


def test_unknown_columns_are_named_and_left_out(tmp_path, capsys):
    (tmp_path / "list.csv").write_text('rating,image,caption,\n3,a.jpg,"a dog,\nasleep",\n')
    (tmp_path / "list.json").write_text('[{"rating": 3, "image": "a.jpg", "caption": "a dog,\\nasleep"}]')
    for name in ("list.csv", "list.json"):
        assert read_pairs(tmp_path / name, "/p") == [ScoredPair(("/p/a.jpg",), ("a dog,\nasleep",))]
        assert "no such columns are known: 'rating'" in capsys.readouterr().err
    (tmp_path / "list.json").write_text('[{"image": "a.jpg", "captions": "a dog"}]')
    with pytest.raises(I0TError, match="unknown column 'captions'. Write caption"):
        read_pairs(tmp_path / "list.json")


def test_items_given_one_by_one_are_all_compared():
    pairs = all_pairs(["a.jpg", "b.jpg"], ["x", "y"])
    assert [pair.kind for pair in pairs] == ["image-text"] * 4 + ["text-text", "image-image"]


# --- calibration ----------------------------------------------------------------------------


def embeddings_of(n: int, agree: float, gap: float = 3.0, seed: int = 0, dim: int = DIM) -> Embeddings:
    rng = np.random.default_rng(seed)
    common, shift = rng.normal(size=(n, dim)), gap * np.eye(dim)[0]
    own = rng.normal(size=(2, n, dim))
    images, texts = (agree * common + (1 - agree) * side + sign * shift for side, sign in zip(own, (1, -1)))
    names = [f"{row}.jpg" for row in range(n)]
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts)]
    return Embeddings(*(side.astype("float32") for side in unit), np.arange(n), names, names, metadata={"model": "m"})


def test_percentiles_agree_with_scipy_ties_included():
    rng = np.random.default_rng(0)
    reference = np.sort(rng.integers(0, 9, size=50).astype(float))
    scores = np.array([-1.0, 0.0, 3.0, 4.5, 8.0, 99.0])
    expected = [percentileofscore(reference, value, kind="mean") for value in scores]
    np.testing.assert_allclose(percentiles(scores, reference), expected)


def test_where_nothing_agrees_matched_pairs_stand_like_unmatched_ones():
    calibration = calibrate(embeddings_of(600, agree=0.0))
    middle = percentiles(calibration.matched, calibration.unmatched["image-text"])
    assert abs(np.median(middle) - 50) < 6


def test_reference_scores_are_of_pairs_that_were_not_fitted():
    # Centred on their own mean n vectors have cosines that average -1 / (n - 1); centred on others' they do not.
    embeddings = embeddings_of(16, agree=0.0, dim=256)
    own = Standardizer().fit_embeddings(embeddings).transform_image(embeddings.image_features)
    inside = (own @ own.T)[~np.eye(16, dtype=bool)].mean()
    outside = np.mean([calibrate(embeddings, seed=seed).unmatched["image-image"].mean() for seed in range(20)])
    assert inside == pytest.approx(-1 / 15, abs=0.01)
    assert outside > 0


def test_texts_of_one_image_never_count_as_unmatched_nor_cross_the_split():
    images = np.eye(DIM, dtype="float32")
    rng = np.random.default_rng(0)
    texts = (np.repeat(images, 5, axis=0) + 0.01 * rng.normal(size=(5 * DIM, DIM))).astype("float32")
    owner = np.repeat(np.arange(DIM), 5)
    embeddings = Embeddings(images, texts, owner, [f"{row}" for row in range(DIM)], [""] * len(texts))
    calibration = calibrate(embeddings)
    assert calibration.n_pairs == 40
    assert calibration.matched.min() > calibration.unmatched["text-text"].max()  # else a sibling got in


def test_too_few_pairs_are_refused():
    with pytest.raises(I0TError, match="3 images with a text are too few"):
        calibrate(embeddings_of(3, agree=1.0))


# --- scores ---------------------------------------------------------------------------------


SKIPPING = EncodeOptions(skip_unreadable=True, progress=False)


class StubEncoder:
    """Features by name, counted; an image whose name has "bad" cannot be read."""

    name, fingerprint, embed_dim = "stub", "f00d", DIM

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def features(self, names: list[str], shift: float) -> np.ndarray:
        self.encoded += names
        rows = [np.random.default_rng(sum(map(ord, Path(name).name))).normal(size=DIM) for name in names]
        rows = np.array(rows) + shift * np.eye(DIM)[0]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_pictures(self, images: list[str], options: EncodeOptions = SKIPPING) -> EncodedImages:
        bad = [f"{image}: unreadable image" for image in images if "bad" in image]
        kept = [row for row, image in enumerate(images) if "bad" not in image]
        if bad and not options.skip_unreadable:
            raise I0TError(bad[0])
        if not kept:
            raise NoPictureError("no image to encode", bad)
        return EncodedImages(self.features([images[row] for row in kept], 3.0), kept, bad, from_cache=False)

    def encode_texts(self, texts: list[str], options: EncodeOptions = SKIPPING) -> EncodedTexts:
        return EncodedTexts(self.features(texts, -3.0), truncated=0, from_cache=False)

    def match_probability(self, cosines: np.ndarray) -> np.ndarray | None:
        """That of no sigmoid model."""


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> PairScorer:
    for name in ("encode_pictures", "encode_texts"):
        monkeypatch.setattr(f"i0t.encoders.encode.{name}", getattr(StubEncoder, name))
    return PairScorer(StubEncoder(), calibrate(embeddings_of(60, agree=0.8)), options=SKIPPING)


def test_a_sigmoid_models_probability_stands_beside_clip_s(scorer, monkeypatch, tmp_path):
    pairs = [ScoredPair(("a.jpg",), ("a dog",)), ScoredPair((), ("a dog", "a cat"))]
    protocol = {"model": "m", "model_note": "", "calibration": "c", "calibration_pairs": 4}
    protocol["calibration_is_built_in_sample"] = False
    plain = scorer.score(pairs)
    write_csv(tmp_path / "plain.csv", plain)
    assert "P(match)" not in scores_table(plain, protocol)
    assert "probability" not in (tmp_path / "plain.csv").read_text()
    monkeypatch.setattr(StubEncoder, "match_probability", lambda _, cosines: 1 / (1 + np.exp(10 - 100 * cosines)))
    rows = scorer.score(pairs)
    raw = float(StubEncoder().features(["a.jpg"], 3.0)[0] @ StubEncoder().features(["A photo depicts a dog"], -3.0)[0])
    assert rows[0]["match_probability"] == pytest.approx(1 / (1 + np.exp(10 - 100 * raw)), abs=1e-6)
    assert "match_probability" not in rows[1], "two texts are no image and text"
    header = scores_table(rows, protocol).splitlines()[0].split()
    assert header[:2] == ["CLIP-S", "P(match)"]
    write_csv(tmp_path / "scores.csv", rows)
    table = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert float(table[0]["match_probability"]) == rows[0]["match_probability"] and not table[1]["match_probability"]


def test_scores_follow_their_formulas(scorer):
    pair = ScoredPair(("a.jpg",), ("a dog",), ("one", "two"))
    row = scorer.score([pair])[0]
    encoder, remover = StubEncoder(), scorer.calibration.remover
    image = encoder.encode_pictures(["a.jpg"]).features
    texts = encoder.encode_texts([f"A photo depicts {text}" for text in ("a dog", "one", "two")]).features
    raw, references = float(image[0] @ texts[0]), texts[1:] @ texts[0]
    moved = remover.transform_text(texts)
    cosine = float(remover.transform_image(image)[0] @ moved[0])
    assert row["clip_s"] == pytest.approx(2.5 * max(raw, 0), abs=1e-6)
    assert row["pac_s"] == pytest.approx(2.0 * max(raw, 0), abs=1e-6)
    assert row["i0t_s"] == pytest.approx(cosine, abs=1e-6)
    best, best_moved = float(references.max()), float((moved[1:] @ moved[0]).max())
    harmonic = 2 * row["clip_s"] * best / (row["clip_s"] + best) if row["clip_s"] else 0.0
    assert row["ref_clip_s"] == pytest.approx(harmonic, abs=1e-6)
    one, other = max(cosine, 0), max(best_moved, 0)
    assert row["ref_i0t_s"] == pytest.approx(2 * one * other / (one + other) if one and other else 0.0, abs=1e-6)
    reference = scorer.calibration.matched
    assert row["matched_percentile"] == pytest.approx(percentileofscore(reference, row["i0t_s"], kind="mean"))


def test_cutoffs_keep_their_share_of_false_alarms():
    """Calibrated on 1 000 pairs: wrong pairs among 1 000 others exceed the cutoff as rarely as stated."""
    calibration, new = calibrate(embeddings_of(1000, agree=0.8)), embeddings_of(1000, agree=0.8, seed=1)
    images, texts = new.image_features, new.text_features
    moved = calibration.remover.transform_image(images), calibration.remover.transform_text(texts)
    assert all(len(scores) == 500 for scores in calibration.independent.values())
    for kind, (one, other) in {
        "image-text": moved,
        "text-text": (moved[1],) * 2,
        "image-image": (moved[0],) * 2,
    }.items():
        wrong = (one @ other.T)[~np.eye(1000, dtype=bool)]
        assert np.mean(wrong > calibration.cutoffs(0.05)[kind]) == pytest.approx(0.05, abs=0.03)  # 3 standard errors
        row = {"kind": kind, "i0t_s": float(np.sort(calibration.independent[kind])[-25]), "error": None}
        assert calibration.judged(row, 0.05) == {"p_value": 26 / 501, "above_cutoff": False}
        assert calibration.judged(row, 0.06)["above_cutoff"]
    assert calibration.judged({"error": "unreadable"}, 0.05) == {"p_value": None, "above_cutoff": None}


def test_pairs_above_the_cutoff_are_marked(tmp_path):
    """The files keep p-values; with too few pairs to decide, no pair is marked, and the number needed is said."""
    whole = embeddings_of(60, agree=0.8)
    calibration = calibrate(whole)
    rows = [
        {"kind": "text-text", "first": "a", "second": text, "error": None, **dict.fromkeys(PERCENTILES, 50.0)}
        | dict.fromkeys(SCORE_NAMES, score)
        for text, score in (("b", -1.0), ("c", 1.0))
    ]
    about = {"calibration_is_built_in_sample": False, "model": "m", "model_note": "", "calibration": "x"}
    for share, expected in ((0.1, [False, True]), (0.01, [False, False])):
        found = [{**row, **calibration.judged(row, share)} for row in rows]
        assert [row["above_cutoff"] for row in found] == expected
        cutoffs = calibration.known_cutoffs(share)
        protocol = {**about, "calibration_pairs": 60, "false_alarms": share, "cutoffs": cutoffs}
        shown = scores_table(found, protocol)
        assert ("* above" not in shown) and ("0.032 *" in shown) == (share == 0.1)
        assert max(map(len, shown.splitlines())) <= 100
        assert ("not decidable with 60 pairs: 200 images with a text are needed" in shown) == (share == 0.01)
    write_csv(tmp_path / "s.csv", found)
    assert [row["p_value"] for row in csv.DictReader((tmp_path / "s.csv").open())] == ["1.0", str(1 / 31)]


def test_one_scale_for_every_kind_of_pair(scorer):
    """For equal similarity, raw cosines of two images are higher; standardised ones are not."""
    calibration = scorer.calibration
    medians = {kind: np.median(scores) for kind, scores in calibration.unmatched.items()}
    assert max(medians.values()) - min(medians.values()) < 0.1
    embeddings = embeddings_of(60, agree=0.8)
    raw_pictures = np.median(embeddings.image_features @ embeddings.image_features.T)
    raw_pairs = np.median(embeddings.image_features @ embeddings.text_features.T)
    assert raw_pictures - raw_pairs > 0.5


def test_every_item_is_encoded_once_and_equal_pairs_are_equal(scorer):
    pairs = [ScoredPair(("a.jpg",), ("a dog",)), ScoredPair(("b.jpg",), ("a dog",)), ScoredPair(("a.jpg",), ("a dog",))]
    rows = scorer.score(pairs) + scorer.score(pairs[:1])
    assert rows[0] == rows[2] == rows[3] != rows[1]
    assert sorted(scorer.encoder.encoded) == ["A photo depicts a dog", "a.jpg", "b.jpg"]


def test_an_unreadable_image_is_named_and_the_others_are_scored(scorer):
    pairs = [ScoredPair((name,), ("x",)) for name in ("a.jpg", "bad.jpg", "c.jpg")]
    rows = scorer.score(pairs)
    assert [row["error"] for row in rows] == [None, "bad.jpg: unreadable image", None]
    assert "i0t_s" not in rows[1] and rows[2] == scorer.score(pairs[2:])[0]
    assert scorer.score([ScoredPair(("worse bad.jpg",), ("x",))])[0]["error"] == "worse bad.jpg: unreadable image"


def test_a_chunk_with_one_new_image_that_is_unreadable(pictures, tmp_path):
    """With the real encoder, before and after it read an image."""
    encoder = load_encoder("tiny")
    scores = calibrate(embeddings_of(60, agree=0.8, dim=encoder.embed_dim))
    broken = [str(tmp_path / name) for name in ("broken.jpg", "missing.jpg")]
    Path(broken[0]).write_bytes(b"no image")
    scorer = PairScorer(encoder, scores, options=SKIPPING)
    for images in (broken[:1], pictures[:1], broken):
        rows = scorer.score([ScoredPair((image,), ("x",)) for image in images])
        for image, row in zip(images, rows, strict=True):
            assert (row["error"] is None) == (image in pictures)
            assert row["error"] is None or row["error"].startswith(image)
    with pytest.raises(I0TError, match="broken.jpg: unreadable image"):
        PairScorer(encoder, scores).score([ScoredPair((broken[0],), ("x",))])


# --- going on after an interruption -----------------------------------------------------------


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "CHUNK", 2)
    pairs, path = [ScoredPair((), (str(row), "x")) for row in (0, 1, 2, 3, 4, 0)], tmp_path / "out.csv.partial"
    scored: list[str] = []

    def scoring(fails_at: str | None):
        def score(chunk):
            for pair in chunk:
                if pair.texts[0] == fails_at:
                    raise I0TError("the picture cannot be read")
                scored.append(pair.texts[0])
            return [{"i0t_s": float(pair.texts[0])} for pair in chunk]

        return score

    with pytest.raises(I0TError):
        list(resume.PartialScores(path, {"model": "m"}).score(pairs, scoring("4")))
    with path.open("a") as stream:
        stream.write('{"pair": "cut o')  # what a killed process leaves
    scored.clear()
    partial = resume.PartialScores(path, {"model": "m"})
    rows = [row for chunk in partial.score(pairs, scoring(None)) for row in chunk]
    assert scored == ["4"]
    assert [row["i0t_s"] for row in rows] == [0, 1, 2, 3, 4, 0]
    assert resume.PartialScores(path, {"model": "another"}).known == {}
    partial.remove()
    assert not path.exists()


def test_what_follows_a_cut_line_is_read_by_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "CHUNK", 1)
    path, pairs = tmp_path / "partial", [ScoredPair((), (str(row), "x")) for row in range(3)]

    def score(chunk):
        return [{"i0t_s": 1.0} for _ in chunk]

    list(resume.PartialScores(path, {}).score(pairs[:1], score))
    with path.open("a") as stream:
        stream.write('{"pair": "cut o')
    list(resume.PartialScores(path, {}).score(pairs[:2], score))
    assert set(resume.PartialScores(path, {}).known) == {pair.key for pair in pairs[:2]}


def test_a_damaged_image_replaced_since_is_scored_by_the_next_run(tmp_path):
    """Scores of an image file count for its size and times of change, not for its name alone."""
    path, pairs = tmp_path / "partial", [ScoredPair((str(tmp_path / name),), ("x",)) for name in ("a.jpg", "b.jpg")]
    for pair in pairs:
        Path(pair.images[0]).write_bytes(b"old")
    list(resume.PartialScores(path, {}).score(pairs, lambda chunk: [{"i0t_s": 1.0} for _ in chunk]))
    Path(pairs[1].images[0]).write_bytes(b"new")
    (rows,) = resume.PartialScores(path, {}).score(pairs, lambda chunk: [{"i0t_s": 2.0} for _ in chunk])
    assert rows == [{"i0t_s": 1.0}, {"i0t_s": 2.0}]


def test_names_alike_are_shown_with_their_folders_and_odd_ones_written(tmp_path):
    scores = dict.fromkeys((*SCORE_NAMES, *PERCENTILES), 1.0)
    rows = [
        {"kind": "image-text", "first": f"/{name}", "second": "half \ud83d", **scores, "error": None}
        for name in ("train2014/0.jpg", "val2014/0.jpg", "val2014/caf\udce9.jpg")
    ]
    protocol = {"model": "m", "model_note": "", "calibration": "c", "calibration_pairs": 4}
    shown = scores_table(rows, {**protocol, "calibration_is_built_in_sample": False})
    assert "/train2014/0.jpg" in shown and "/val2014/0.jpg" in shown and "\ncaf" in shown
    write_csv(tmp_path / "scores.csv", rows)
    assert "val2014/caf\\udce9.jpg,half \\ud83d" in (tmp_path / "scores.csv").read_text()


def test_an_image_repaired_since_is_scored_by_the_next_run(tmp_path):
    path, pairs = tmp_path / "partial", [ScoredPair((name,), ("x",)) for name in ("a.jpg", "b.jpg")]

    def scoring(broken: str):
        return lambda chunk: [
            {"error": "unreadable"} if broken in pair.images else {"i0t_s": 1.0, "error": None} for pair in chunk
        ]

    (first,) = resume.PartialScores(path, {}).score(pairs, scoring("b.jpg"))
    assert [row["error"] for row in first] == [None, "unreadable"]
    partial = resume.PartialScores(path, {})
    assert set(partial.known) == {pairs[0].key}
    (second,) = partial.score(pairs, scoring(""))
    assert [row["error"] for row in second] == [None, None]


# --- the program ----------------------------------------------------------------------------


@pytest.fixture
def pictures(sample_roots) -> list[str]:
    folder = sample_roots.sub / "PnP-VQA/lavis/flickr30k/images/flickr30k-images"
    return [str(path) for path in sorted(folder.iterdir())[:3]]


@pytest.fixture
def run(configs, tmp_path, capsys):
    """Run the program on the untrained tiny model; returns its status, output and errors."""

    def call(*flags: str, model: str = "tiny") -> tuple[int, str, str]:
        status = program.main(["--model", model, "--output", str(tmp_path / "kept"), "--workers", "0", *flags])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


def test_an_output_may_not_be_an_input_nor_another_output(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "score", lambda options: pytest.fail("worked"))
    listed = tmp_path / "list.csv"
    listed.write_text(f"image,caption\n{pictures[0]},x\n")
    before, record = listed.read_bytes(), str(tmp_path / "kept" / "scores.json")
    (tmp_path / "link.csv").symlink_to(listed)
    new, pairs = str(tmp_path / "new"), ["--pairs", str(listed)]
    for flags, message in (
        ([*pairs, "--csv", str(listed)], "list.csv: is an input, and --csv would overwrite it"),
        ([*pairs, "--json", str(tmp_path / "link.csv")], "is an input, and --json would overwrite it"),
        ([*pairs, "--json", pictures[0]], "is an input, and --json"),
        ([*pairs, "--csv", new, "--json", new], "is written by --csv, and --json would overwrite it"),
        ([*pairs, "--csv", record], "scores.json: is an input, and --output"),
        ([*pairs, "--csv", str(tmp_path)], "is a folder. Give --csv the name of a file"),
    ):
        status, _, said = run(*flags)
        assert status == 2 and message in said and listed.read_bytes() == before


def test_an_image_name_of_300_characters_is_missing_or_skipped(run, pictures):
    flags = ["--image", "a" * 300, "--image", pictures[0], "--caption", "x"]
    assert "no such image (1 of 2 are missing)" in run(*flags)[2]
    status, printed, _ = run(*flags, "--skip-unreadable")
    assert status == 0 and "not scored: aaa" in printed


def test_one_image_and_one_caption(run, pictures, tmp_path, monkeypatch):
    flags = ["--image", pictures[0], "--caption", "a red circle", "--json", str(tmp_path / "s.json")]
    status, printed, said = run(*flags)
    assert status == 0
    assert all(len(line) <= 100 for line in printed.splitlines())
    assert "untrained: its scores are noise" in printed and "20 pairs of flickr" in said
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["protocol"]["calibration_pairs"] == 20
    assert json.loads((tmp_path / "kept" / "scores.json").read_text()) == content
    row = content["rows"][0]
    torch.manual_seed(0)
    encoder = load_encoder("tiny")
    cosine = float(encoder.encode_images([pictures[0]])[0] @ encoder.encode_texts(["A photo depicts a red circle"])[0])
    assert row["clip_s"] == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    monkeypatch.setattr(Encoder, "features_of_pixels", None)  # what was encoded is kept in the cache
    monkeypatch.setattr(Encoder, "features_of_tokens", None)
    assert run(*flags)[0] == 0
    assert json.loads((tmp_path / "s.json").read_text()) == content


def test_a_list_keeps_its_order_and_names_what_cannot_be_read(run, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    lines = [f"{pictures[row % 3]},caption {row}" for row in range(30)]
    lines[7] = f"{tmp_path / 'broken.jpg'},caption 7"
    (tmp_path / "list.csv").write_text("image,caption\n" + "\n".join(lines) + "\n")
    flags = ["--pairs", str(tmp_path / "list.csv"), "--csv", str(tmp_path / "scores.csv")]
    status, _, said = run(*flags)
    assert status == 2 and "broken.jpg" in said and "--skip-unreadable" in said
    assert not (tmp_path / "scores.csv").exists()
    status, printed, _ = run(*flags, "--skip-unreadable")
    assert status == 0 and "broken.jpg: unreadable image" in printed and "30 pairs in all" in printed
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["second"] for row in rows] == [f"caption {row}" for row in range(30)]
    assert [row["second"] for row in rows if row["error"]] == ["caption 7"]
    assert rows[7]["i0t_s"] == "" and float(rows[8]["i0t_s"]) <= 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_missing_image_is_named_before_anything_is_encoded(run, pictures):
    status, _, said = run("--image", pictures[0], "--image", "gone/photo.jpg")
    assert status == 2 and "gone/photo.jpg: no such image (1 of 2 are missing)" in said and "encoding" not in said
    status, printed, _ = run("--image", pictures[0], "--image", "gone/photo.jpg", "--caption", "x", "--skip-unreadable")
    assert status == 0 and "not scored: gone/photo.jpg: no such image" in printed


def test_calibration_vectors_must_be_of_this_model(run, pictures, tmp_path):
    path = embeddings_of(20, agree=0.5, dim=128).save(tmp_path / "other.safetensors")
    pair = ["--image", pictures[0], "--caption", "x", "--calibrate-on"]
    status, _, said = run(*pair, str(path))
    assert status == 2 and "other.safetensors" in said and "model" in said
    np.save(tmp_path / "narrow.npy", np.ones((2, 8, 5), dtype="float32"))
    assert run(*pair, str(tmp_path / "narrow.npy"))[0] == 2


def test_sample_model_is_trained_once_and_says_so(run, pictures, tmp_path, monkeypatch, sample_roots, configs):
    monkeypatch.setattr(models, "BRIEF", {"steps": 2, "batch_size": 8, "warmup_steps": 1, "validate_every": 0})
    monkeypatch.setattr("i0t.data.sample.make_sample", lambda _: sample_roots.main.parent)
    pair = ["--image", pictures[0], "--caption", "x"]
    status, printed, said = run(*pair, model="sample")
    assert status == 0
    assert "training the sample's small model once" in said
    assert "trained for a minute on drawn shapes" in printed
    assert not (configs / "ckpt_file_name.txt").exists()  # scoring notes nothing for other programs
    status, again, said = run(*pair, model="sample")
    assert (status, again) == (0, printed) and "training" not in said.replace("trained", "")
    checkpoint = next((tmp_path / "kept").glob("*-last.safetensors"))
    (configs / "ckpt_file_name.txt").write_text(f"{checkpoint}\n")
    assert "the last checkpoint" in run(*pair, model="sample")[1]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--caption", "alone"],
        ["--caption", "a dog", "--caption", " "],
        ["--pairs", "list.csv", "--image", "a.jpg"],
        ["--images", "folder"],
        ["--image", "a.jpg", "--caption", "x", "--images", "folder"],
        ["--image", "a.jpg", "--caption", "x", "--calibrate-on", "a.npy", "--calibration-pairs", "9"],
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(flags):
    with pytest.raises(SystemExit) as stopped:
        program.main(flags)
    assert stopped.value.code == 2


@pytest.mark.parametrize("flag", ["--calibration-pairs=-3", "--calibration-pairs=0", "--seed=-1"])
def test_numbers_out_of_range_are_refused_by_the_flag(flag, capsys):
    with pytest.raises(SystemExit):
        program.main(["--caption", "a", "--caption", "b", flag])
    assert f"argument {flag.partition('=')[0]}: {flag.partition('=')[2]} is" in capsys.readouterr().err
