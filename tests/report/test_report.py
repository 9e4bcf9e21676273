"""The report: its numbers equal the library's, its page is safe and complete, odd inputs are handled or refused.

Run: python -m pytest tests/report/test_report.py
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from report_cases import cones, page_data

from i0t.commands.search_eval import main as search_eval
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.gap import modality_gap
from i0t.metrics.retrieval import retrieval_metrics
from i0t.report import ReportOptions, prose
from i0t.report.calibration_curve import calibration_curve, fit_law, sizes, spread
from i0t.report.definitions import GLOSSARY, MEASURES
from i0t.report.measurements import cosine_histograms, measure, unit_pairs
from i0t.report.mixed_search import mixed_search
from i0t.report.page import render, write_report
from i0t.report.prose import headline
from i0t.report.recall import recall_at_1
from i0t.report.sphere import facing, project
from i0t.report.splits import Groups
from i0t.search.rivals import RULES
from i0t.standardize import Standardizer
from i0t.standardize.registry import own_names

SEED = 3
QUICK = ReportOptions("pca", seed=SEED)
quick = partial(measure, options=QUICK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A written report of 60 images with two captions each."""
    folder = tmp_path_factory.mktemp("report")
    write_report(cones(captions=2), folder, QUICK, notes=["Mind </script> this."])
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return page_data(folder / "report.html")


@pytest.fixture(scope="module")
def stages():
    """The stages that the report must have tested: raw, after held-out means, after its own means."""
    calibration, tested = Groups(cones(captions=2)).draw(30, np.random.default_rng(SEED))

    def moved(fitted_on: Embeddings) -> Embeddings:
        standardizer = Standardizer().fit(fitted_on.image_features, fitted_on.text_features)
        return tested.with_features(
            standardizer.transform_image(tested.image_features), standardizer.transform_text(tested.text_features)
        )

    return {"all": cones(captions=2), "before": tested, "after": moved(calibration), "leak": moved(tested)}


def test_every_measure_on_the_page_is_the_librarys(data, stages):
    for column, stage in stages.items():
        expected = modality_gap(stage.image_features, stage.text_features, stage.pairs, SEED)
        for key in MEASURES:
            assert data["measures"][key][column] == pytest.approx(expected[key], rel=1e-6), (key, column)
        assert data["severity"][column] == expected["severity"]
    assert data["measures"]["centroid_distance"]["before"] > 1
    assert data["measures"]["centroid_distance"]["after"] < 0.5


def test_recall_on_the_page_is_the_librarys(data, stages):
    for column, stage in stages.items():
        expected = retrieval_metrics(stage.image_features, stage.text_features, stage.image_of_text, ks=(1,))
        for direction in ("i2t", "t2i"):
            value, low, high, change, *_ = data["recall"][direction][column]
            assert value == pytest.approx(expected[f"{direction}_r1"], rel=1e-6)
            assert low <= value <= high
            if column in ("after", "leak"):
                assert change == pytest.approx(value - data["recall"][direction]["before"][0], abs=1e-4)


@pytest.mark.parametrize("captions", [1, 2])
def test_mixed_search_on_the_page_is_that_of_search_eval(tmp_path, captions, capsys):
    file = cones(captions=captions).save(tmp_path / "cones.safetensors")
    assert search_eval([str(file), "--seed", str(SEED), "--output", str(tmp_path)]) == 0
    record = json.loads(next(tmp_path.glob("search-*.json")).read_text(encoding="utf-8"))
    measured = quick(load_embeddings(file))
    data = page_data(render(measured, {}))["search"]
    assert {"raw", *RULES, *own_names()} < set(record["methods"])
    table = capsys.readouterr().out
    for shown, (name, expected) in zip(data["methods"], record["methods"].items(), strict=True):
        assert shown["label"] in table and shown["fitted"] == (name not in {"raw", *RULES})
        means = expected["metrics"]
        assert shown["ndcg"] == pytest.approx([means["ndcg"], *expected["intervals_95"]["ndcg"]], rel=1e-6)
        if captions == 2:
            assert [shown["own"], shown["other"]] == pytest.approx([means["ndcg_own"], means["ndcg_other"]], rel=1e-6)
        assert shown["own_share"]["image"] == pytest.approx(1 - means["text_share_image_queries"], rel=1e-6)
    rival, best = (data["methods"][data[which]] for which in ("rival", "best"))
    assert not rival["fitted"] and best["fitted"]
    assert rival["ndcg"][0] == max(one["ndcg"][0] for one in data["methods"] if not one["fitted"])
    assert rival["against"][0] > 0  # the others
    assert best["against"][0] == pytest.approx(best["ndcg"][0] - rival["ndcg"][0], abs=1e-6)
    assert (data["methods"][0]["own"] is None) == (captions == 1)
    note = prose.captions(measured)["search"]
    assert f"“{best['label']}” with {best['ndcg'][0]:.3f}" in note
    assert ("only half of the question can be judged" in note) == (captions == 1)
    found = measured["search"]
    found["methods"][found["best"]]["against"] = [-0.2, -0.3, -0.1]  # leans to the rivals: it does not say "worse"
    note = prose.captions(measured)["search"]
    assert "−0.200 (−0.300 to −0.100, an interval" in note and "not certainly better than every rival" in note


def test_mixed_search_that_cannot_be_judged_says_why(monkeypatch):
    whole = cones(40)
    stacked = np.stack([whole.image_features, np.roll(whole.image_features, 1, axis=1)], axis=1)
    classes = {"labels": np.arange(40) % 10, "image_of_text": np.full(40, -1)}
    cases = {
        "no text has an image": cones(40, image_of_text=np.full(40, -1)),
        "2 vectors per item": replace(whole, image_features=stacked),
        "The images are in classes": cones(40, **classes),
    }
    for reason, embeddings in cases.items():
        assert reason in mixed_search(embeddings)["skipped"]
    monkeypatch.setattr("i0t.report.mixed_search.MOST_IMAGES", 39)
    assert "40 images (at most 39)" in mixed_search(whole)["skipped"]


def test_headline_tells_the_numbers_of_the_page(folder, data):
    page = (folder / "report.html").read_text(encoding="utf-8")
    sentence = re.search(r'<p class="headline">(.*?)</p>', page)[1]
    distance = data["measures"]["centroid_distance"]
    assert f"{distance['before']:.3f} apart" in sentence and f"leaves {distance['after']:.3f}" in sentence
    assert "measured on 30 other images" in sentence
    assert f"{data['recall']['i2t']['after'][0]:.1f} % of cases" in sentence


def test_headline_of_a_low_gap_does_not_claim_one():
    measured = {
        "measures": {"centroid_distance": {"before": 0.05, "after": 0.04}},
        "severity": {"before": "low", "after": "low"},
        "counts": {"calibration": 2500},
        "unit": "pairs",
        "recall": {},
    }
    assert headline(measured).startswith("This model puts images and texts nearly in the same place, 0.050 apart")
    assert "2,500 other pairs" in headline(measured)


def test_linked_items_never_stand_on_both_sides():
    rng = np.random.default_rng(0)
    for embeddings in (cones(captions=5), cones(image_of_text=np.r_[np.arange(50), [-1] * 10])):
        groups = Groups(embeddings)
        for count in (2, 20, 30):
            calibration, tested = groups.draw(count, rng)
            assert len(calibration.image_ids) == count
            assert not set(calibration.image_ids) & set(tested.image_ids)
            assert sorted(calibration.texts + tested.texts) == sorted(embeddings.texts)
            for side in (calibration, tested):  # each text still belongs to the image it came with
                for image, text in side.pairs:
                    assert (
                        int(side.image_ids[image][:-4])
                        == embeddings.image_of_text[embeddings.texts.index(side.texts[text])]
                    )


def few_captioned(n: int, captioned: int, others: int = 0) -> Embeddings:
    """`n` images, of which the first have a text; and texts of no image."""
    rows = np.r_[np.arange(captioned), np.arange(others)]
    whole = cones(n)
    owner = np.r_[np.arange(captioned), np.full(others, -1)]
    return replace(
        whole,
        text_features=whole.text_features[rows],
        texts=[f"{row}" for row in range(len(rows))],
        image_of_text=owner,
    )


@pytest.mark.parametrize(("n", "captioned", "others"), [(300, 30, 0), (60, 4, 0), (60, 1, 5), (60, 0, 5), (9, 8, 0)])
def test_every_draw_has_images_and_texts_in_proportion(n, captioned, others):
    rng, groups = np.random.default_rng(0), Groups(few_captioned(n, captioned, others))
    texts = captioned + others
    for count in range(1, n):
        calibration, tested = groups.draw(count, rng)
        assert len(calibration.image_ids) == count and len(tested.image_ids) == n - count
        assert len(calibration.texts) + len(tested.texts) == texts
        assert abs(len(calibration.texts) - count / n * texts) <= 1 and calibration.texts and tested.texts
    with pytest.raises(I0TError, match=f"{n} of {n} .* leave a part without an image"):
        groups.draw(n, rng)


def test_few_images_with_a_text_give_a_report():
    measured = quick(few_captioned(300, 15))
    assert measured["calibration"]["n"] == [32, 64, 150]  # 20 images are the least that have a text among them
    assert measured["counts"]["tested_texts"] in (7, 8)


@pytest.mark.parametrize(
    ("embeddings", "unit"),
    [
        (cones(), "pairs"),
        (cones(captions=3), "images"),
        (cones(image_of_text=np.full(60, -1)), "images"),
        (cones(labels=np.arange(60) // 5, image_of_text=np.full(60, -1)), "linked groups"),
    ],
)
def test_what_n_counts(embeddings, unit):
    assert Groups(embeddings).unit == unit


def test_cosines_are_exact_where_all_pairs_fit():
    stage = cones(12)
    found = cosine_histograms({"before": unit_pairs(stage)})["before"]
    cosines = stage.image_features.astype(float) @ stage.text_features.T.astype(float)
    own, other = np.eye(12, dtype=bool), ~np.eye(12, dtype=bool)
    assert found["matched"]["mean"] == pytest.approx(cosines[own].mean(), abs=1e-6)
    assert found["unmatched"]["mean"] == pytest.approx(cosines[other].mean(), abs=1e-6)
    among_images = stage.image_features.astype(float) @ stage.image_features.T.astype(float)
    assert found["images"]["mean"] == pytest.approx(among_images[other].mean(), abs=1e-6)
    assert all(sum(kind["shares"]) == pytest.approx(1) for kind in found.values())


def test_activations_mark_the_dimensions_that_peak(data, stages):
    found = data["activations"]
    assert found["peaks"] == {"image": [3], "text": [7]} and set(found["carriers"][:2]) == {3, 7}
    means = [
        side.astype(float).mean(axis=0) for side in (stages["before"].image_features, stages["before"].text_features)
    ]
    np.testing.assert_allclose(found["before"]["image"], means[0], atol=1e-6)
    squared = (means[0] - means[1]) ** 2
    assert found["carried"] == pytest.approx(np.sort(squared)[-5:].sum() / squared.sum(), rel=1e-5)


def test_law_of_a_closed_case():
    """Uniform on the sphere, images and texts independent: tr Cov = 1 each, so E[CD^2] = 2 (1/n + 1/m)."""
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 400, 128))
    names = [str(row) for row in range(400)]
    unit = [(side / np.linalg.norm(side, axis=1, keepdims=True)) for side in (images, texts)]
    curve = calibration_curve(Groups(Embeddings(*unit, np.arange(400), names, names)), draws=6)
    # To first order in 1/n and 1/D; normalising again after a mean of few items takes a few percent off.
    wide = curve.n >= 64
    assert fit_law(curve.n[wide], curve.m[wide], curve.distances[wide]) == pytest.approx(np.sqrt(2), rel=0.04)
    assert curve.n.tolist() == [8, 16, 32, 64, 128, 200] and (curve.n + curve.m == 400).all()


def test_law_is_the_root_mean_square_of_the_ratios():
    n, m = np.array([10, 40]), np.array([90, 60])
    distances = np.array([[1.0, 3.0], [2.0, 2.0]]) * spread(n, m)[:, None]
    assert fit_law(n, m, distances) == pytest.approx(np.sqrt((1 + 9 + 4 + 4) / 4))


def test_curve_ends_at_half_of_the_items_as_the_page_tests():
    assert [sizes(total)[-1] for total in (4, 5, 20, 501)] == [2, 2, 10, 250]
    assert all((np.diff(sizes(total)) > 0).all() for total in range(4, 300))


def test_differences_are_of_paired_queries():
    stage = cones()
    found = recall_at_1({"a": stage, "b": stage}, np.arange(60))
    value, low, high, *difference = found["i2t"]["b"]
    assert difference == [0, 0, 0] and low < value < high
    # For single captions the bootstrap is a binomial of 60 queries.
    half = 196 * np.sqrt(value / 100 * (1 - value / 100) / 60)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_turning_the_sphere_keeps_it_and_puts_images_left():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3)) + np.where(np.arange(50) < 20, 2, -2)[:, None]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    turned = facing(points, np.arange(50) < 20)
    np.testing.assert_allclose(turned @ turned.T, points @ points.T, atol=1e-12)
    assert turned[:20, 0].mean() < turned[20:, 0].mean()
    triple = [np.linalg.det(side[[0, 20, 40]]) for side in (points, turned)]
    assert triple[0] == pytest.approx(triple[1])  # a rotation, not a mirror
    with pytest.raises(I0TError, match="choose umap or pca"):
        project(points, "tsne")


def test_names_cannot_break_out_of_the_page():
    nasty = "</script><img src=x onerror=alert(1)>&{{data}} <!--"
    embeddings = cones(
        8, texts=[nasty] * 8, image_ids=[nasty] * 8, metadata={"model": nasty, "files": [f"/tmp/{nasty}"]}
    )
    page = render(quick(embeddings), embeddings.metadata, notes=[nasty])
    assert page.count("</script>") == 2 and "<img" not in page
    assert "<h1>&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;{{data}} &lt;!--</h1>" in page
    assert page_data(page)["sphere"]["texts"] == [nasty] * 4 and nasty in page_data(page)["notes"]


def test_page_loads_nothing(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"' ]*", page) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_figures_for_papers_lie_beside_the_page(folder):
    names = ("sphere", "cosines", "activations", "calibration", "recall", "search")
    expected = {f"{name}{suffix}" for name in names for suffix in (".png", ".pdf")} | {"report.html"}
    assert {path.name for path in folder.iterdir()} == expected
    for name in names:
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_every_number_has_a_definition(folder, data):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-def="(\w+)"', page)) <= set(GLOSSARY) == set(data["glossary"])
    assert set(data["measures"]) <= set(GLOSSARY)
    assert all(definition.text.endswith(".") for definition in GLOSSARY.values())


def test_without_pairs_what_needs_them_is_left_out():
    whole = cones()
    unpaired = Embeddings(
        whole.image_features, whole.text_features[:40], np.full(40, -1), whole.image_ids, whole.texts[:40]
    )
    measured = quick(unpaired)
    data = page_data(render(measured, {}))
    assert data["recall"] == {} and data["measures"]["alignment"]["before"] is None
    assert "matched" not in data["cosines"]["before"]
    assert any("name no pairs" in note for note in data["notes"])
    assert measured["measures"]["centroid_distance"]["after"] < 0.5
    assert measured["counts"]["tested_texts"] == 20


def test_several_vectors_an_image_and_class_labels():
    many = cones(20)
    three = np.stack([many.image_features, np.roll(many.image_features, 1, axis=1)], axis=1)
    found = quick(replace(many, image_features=three))
    assert found["recall"]["i2t"]["before"][0] >= 0 and len(found["activations"]["before"]["image"]) == 24
    labelled = cones(40, labels=np.arange(40) % 10, image_of_text=np.full(40, -1))
    found = quick(labelled)
    assert found["unit"] == "linked groups" and found["counts"]["tested"] == 5


def test_equal_modalities_leave_nothing():
    same = cones(16)
    measured = quick(replace(same, text_features=same.image_features))
    assert measured["calibration"]["c"] == 0 and measured["calibration"]["worst_misfit"] == 0
    assert "nearly in the same place" in render(measured, {})


def test_too_few_items_are_refused():
    with pytest.raises(I0TError, match="3 linked groups of images and 3 of texts: a report needs 4 or more"):
        quick(cones(3))
    assert quick(cones(4))["counts"]["tested"] == 2
