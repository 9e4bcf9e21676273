"""Documents that own images and texts: found once, by their best item; by hand, by ir_measures, by the program.

Run: python -m pytest tests/search/test_documents.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from i0t.commands.search_eval import main
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.search import (
    MixedLayout,
    MixedTask,
    ScoreStandardizer,
    documents_of_ids,
    documents_of_pairs,
    either_kind,
    layout_of_qrels,
    read_documents,
)
from i0t.search.lists import best_parts, summed_parts
from i0t.search.rivals import RIVALS
from i0t.standardize import ZScore


def at(cosine: float) -> list[float]:
    return [cosine, np.sqrt(1 - cosine**2)]


@pytest.fixture
def listings() -> MixedTask:
    """Two listings with photograph and title, a photograph, and a title; the text 3 asks.

    Cosines: listing A .3 (photograph, place 0) and .9 (title, 3), B .5 (1) and .6 (4), the photograph .55 (2), the
    title .4 (5). Relevant: B (grade 2) and the photograph (1).
    """
    images = np.array([at(value) for value in (0.3, 0.5, 0.55)])
    texts = np.array([at(value) for value in (0.9, 0.6, 0.4, 1.0)])
    documents, judged = np.array([0, 1, 2, 0, 1, 5]), np.array([[0, 1], [0, 2]])
    layout = MixedLayout(3, np.arange(6), np.array([6]), judged, np.array([2.0, 1.0]), documents=documents)
    return MixedTask(images, texts, layout)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (None, [3, 4, 2, 5]),  # A by its title, B by its title, the photograph, the title: .9 .6 .55 .4
        ("own_kind", [3, 4, 5]),
        ("other_kind", [2, 1, 0]),
        # Ranks in photographs: 2, B, A; in titles: A, B, 5. Sums: A 1/63 + 1/61 > B 2/62 > one of 1/61 > 1/63.
        ("rank_fusion", [2, 3, 1, 5]),
        ("rank_fusion_sum", [3, 1, 2, 5]),
        ("mean_vector", [0, 1, 2, 5]),  # of A (.3 + .9) / |(.3 + .9, .954 + .436)| = .653, of B .551, .55, .4
    ],
)
def test_a_document_is_found_once_at_its_best_item(listings, method, expected):
    places, scores = listings.rank(method, depth=6, k=4)
    assert places[0][np.isfinite(scores[0])].tolist() == expected
    assert (np.diff(scores[0][np.isfinite(scores[0])]) <= 0).all()


@pytest.mark.parametrize("method", [None, "own_kind", "mean_vector"])
def test_a_document_of_many_items_does_not_fill_the_list(method):
    """Sixty texts of one document are nearer than the text of the relevant one, which is still second."""
    texts = np.array([*(at(value) for value in np.linspace(0.99, 0.9, 60)), at(0.5), at(0.4), at(1.0)])
    documents = np.array([0, *[1] * 60, 61, 62])
    layout = MixedLayout(1, np.arange(63), np.array([63]), np.array([[0, 61]]), np.ones(1), documents=documents)
    task = MixedTask(np.array([at(0.1)]), texts, layout)
    assert task.quality(method, k=2)["recall"] == 1.0


@pytest.mark.parametrize("method", ["min_max_sum", "dbsf_sum"])
def test_an_item_that_a_store_would_not_return_takes_nothing_from_a_sum(method):
    """Of A the photograph is the best one, and the title is below the best hundred; B has the second photograph."""
    images = np.array([at(value) for value in (0.9, 0.89, 0.1)])
    texts = np.array([*(at(value) for value in np.linspace(0.99, 0.98, 165)), at(0.1), at(1.0)])
    documents = np.array([0, 1, 2, *[3] * 60, *range(63, 168), 0])
    layout = MixedLayout(3, np.arange(169), np.array([169]), np.array([[0, 0]]), np.ones(1), documents=documents)
    places, scores = MixedTask(images, texts, layout).rank(method, depth=3, k=3)
    of_a, of_b = (scores[0][np.isin(places[0], items)].max() for items in ([0, 168], [1]))
    assert of_a > of_b


def test_quality_of_documents_by_hand(listings):
    found = {name: values[0] for name, values in listings.quality(None, k=2).items()}
    ideal = 2 + 1 / np.log2(3)
    assert found["ndcg"] == pytest.approx(2 / np.log2(3) / ideal)  # B is second, once
    assert found["recall"] == 0.5
    assert found["text_share"] == 1.0  # both are shown by their titles
    assert (found["recall_other"], found["recall_both"]) == (1.0, 1.0)  # without B, the photograph is second
    assert found["ndcg_both"] == pytest.approx(1 / np.log2(3)) and np.isnan(found["ndcg_own"])
    fused = {name: values[0] for name, values in listings.quality("rank_fusion_sum", k=2).items()}
    assert fused["recall"] == 0.5 and fused["text_share"] == 0.5  # A by its title, B by its photograph


def test_lists_of_parts_keep_the_order_and_ties():
    places, scores = (
        np.array([[4, 0, 1, 3, 2], [1, 2, -1, -1, -1]]),
        np.array([[9, 7, 7, 5, 1], [3, 3, -np.inf] + [-np.inf] * 2]),
    )
    document_of = np.array([0, 1, 0, 1, 4])
    kept, values = best_parts((places, scores), document_of)
    assert kept.tolist() == [[4, 0, 1, -1, -1], [1, 2, -1, -1, -1]] and values[0, :3].tolist() == [9, 7, 7]
    kept, values = summed_parts((places, scores), document_of)
    assert kept.tolist() == [[1, 4, 0, -1, -1], [1, 2, -1, -1, -1]] and values[0, :3].tolist() == [12, 9, 8]


@pytest.mark.parametrize("method", ["raw", "z_score", "adaptive"])
def test_ndcg_and_recall_of_documents_are_those_of_ir_measures_on_collapsed_runs(method):
    """Runs of items with brute-force scores, collapsed to the maximum of a document as trec tools do."""
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(3)
    images, texts = rng.normal(size=(40, 12)) + 1, rng.normal(size=(70, 12)) - 1
    corpus = np.concatenate([np.arange(40), 40 + np.arange(50)])
    owner = rng.integers(0, 45, 90)
    first = np.array([np.flatnonzero(owner == own)[0] for own in owner])
    relevant = rng.choice(np.unique(first), size=(20, 4))
    judged = np.array(sorted({(row, place) for row in range(20) for place in relevant[row].tolist()}))
    grades = rng.integers(1, 4, len(judged)).astype(float)
    queries = np.concatenate([np.arange(30, 40), 40 + np.arange(50, 60)])
    task = MixedTask(images, texts, MixedLayout(40, corpus, queries, judged, grades, documents=first))
    cohorts = {"image": images[:30], "text": texts[:45]}
    fitted = {"raw": None, "z_score": ZScore().fit(*cohorts.values()), "adaptive": ScoreStandardizer().fit(cohorts)}
    sides = {"image": images, "text": texts}
    moved = fitted[method]
    if method == "z_score":
        sides, moved = {"image": moved.transform_image(images), "text": moved.transform_text(texts)}, None

    def scores(query: int) -> np.ndarray:
        kind, row = ("image", query) if query < 40 else ("text", query - 40)
        asking = sides[kind][row : row + 1]
        parts = ("image", sides["image"]), ("text", sides["text"][:50])
        if moved is not None:
            return np.concatenate([moved.scores(asking, kind, items, other)[0] for other, items in parts])
        every = np.concatenate([items for _, items in parts])
        return (every @ asking[0]) / np.linalg.norm(every, axis=1) / np.linalg.norm(asking)

    run = []
    for row, query in enumerate(queries):
        held = scores(query)
        run += [
            ir_measures.ScoredDoc(str(row), str(place), float(held[first == place].max())) for place in np.unique(first)
        ]
    qrels = [ir_measures.Qrel(str(row), str(place), int(grade)) for (row, place), grade in zip(judged.tolist(), grades)]
    found = task.quality(fitted[method], k=5)
    for name, measure in (("ndcg", ir_measures.nDCG @ 5), ("recall", ir_measures.R @ 5)):
        expected = {int(one.query_id): one.value for one in ir_measures.iter_calc([measure], qrels, run)}
        np.testing.assert_allclose(found[name], [expected[row] for row in range(20)], atol=1e-6)


# --- from files -------------------------------------------------------------------------------


@pytest.fixture
def corpus() -> Embeddings:
    """Three listings: photographs and titles of equal ids; the third has two photographs."""
    eye = np.eye(7, dtype="float32")
    metadata = {"text_ids": ["a", "b", "c"]}
    return Embeddings(eye[:4], eye[4:], np.array([0, 1, 2]), ["a", "b", "c", "c"], [""] * 3, metadata=metadata)


@pytest.fixture
def asked() -> Embeddings:
    eye = np.eye(7, dtype="float32")
    return Embeddings(eye[:1], eye[[5]], np.array([-1]), ["p"], [""], metadata={"text_ids": ["q"]})


def test_judgments_of_documents_by_any_name(corpus, asked, tmp_path):
    expected = [0, 1, 2, 2, 0, 1, 2]  # place of the first item of each corpus item's document
    layout, _, _ = layout_of_qrels(
        [("q", "b", 1.0), ("p", "c", 2.0)], corpus, asked, documents=documents_of_ids(corpus)
    )
    assert layout.documents.tolist() == expected and layout.judged.tolist() == [[0, 1], [1, 2]]
    (tmp_path / "d.tsv").write_text("doc_id\titem_id\nlisting\timage:2\nlisting\timage:3\nlisting\ttext:2\n")
    judgments = [("q", "listing", 1.0), ("q", "image:3", 3.0), ("q", "text:2", 2.0), ("q", "image:0", 1.0)]
    layout, _, _ = layout_of_qrels(judgments, corpus, asked, documents=read_documents(tmp_path / "d.tsv"))
    assert layout.documents.tolist() == [0, 1, 2, 2, 4, 5, 2]
    assert (layout.judged.tolist(), layout.grades.tolist()) == ([[0, 2], [0, 0]], [3.0, 1.0])  # the best grade, once
    (tmp_path / "d.json").write_text(json.dumps({"listing": ["image:2", "image:3", "text:2"]}))
    assert read_documents(tmp_path / "d.json") == read_documents(tmp_path / "d.tsv")
    with pytest.raises(I0TError, match="two items are called 'b'"):
        layout_of_qrels([("q", "b", 1.0)], corpus, asked)


def test_a_query_of_the_corpus_takes_its_document_out_of_the_index(corpus):
    documents = documents_of_pairs(corpus)
    layout, _, _ = layout_of_qrels([("text:1", "image:2", 1.0)], corpus, documents=documents)
    assert layout.corpus.tolist() == [0, 2, 3, 4, 6]  # neither text 1 nor image 1
    with pytest.raises(I0TError, match="document image:0 of query text:0 is itself a query"):
        layout_of_qrels([("text:0", "image:0", 1.0)], corpus, documents=documents)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"y": ["image:0"], "x": ["image:0", "text:1"]}', "document x: its item image:0 is in y, too"),
        ('{"x": ["image:9"]}', "document x: no item is called 'image:9'"),
        ('{"b": ["image:0", "text:0"]}', "document b: an item of another document has this name"),
        ('{"x": []}', "document x has no item"),
        ('["x"]', "expected an object"),
        ("{}", "no document in it"),
    ],
)
def test_bad_documents_are_named(corpus, asked, tmp_path, content, message):
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(I0TError, match=message):
        layout_of_qrels([("q", "image:1", 1.0)], corpus, asked, documents=read_documents(tmp_path / "d.json"))


def test_a_third_of_the_images_are_documents_with_a_text():
    pairs = np.stack([np.repeat(np.arange(9), 2), np.arange(18)], axis=1)
    layout = either_kind(pairs, 9, seed=1, documents=True)
    parts = np.bincount(layout.documents, minlength=len(layout.corpus))
    assert sorted(parts[parts > 0].tolist()) == [1] * 6 + [2] * 3 and layout.is_both.sum() == 3
    owner = np.append(np.arange(9), pairs[:, 0])
    asked, found = layout.queries[layout.judged[:, 0]], layout.corpus[layout.judged[:, 1]]
    np.testing.assert_array_equal(owner[asked], owner[found])
    np.testing.assert_array_equal(owner[asked], layout.group_of_query)
    assert not set(layout.queries) & set(layout.corpus)
    assert layout.query_is_text[layout.is_both[layout.judged[:, 1]]].all()


def test_program_with_documents(tmp_path, capsys):
    rng = np.random.default_rng(0)
    common = np.repeat(rng.normal(size=(60, 16)), 2, axis=0)
    images = common[::2] + 0.3 * rng.normal(size=(60, 16)) + 3 * np.eye(16)[0]
    texts = common + 0.3 * rng.normal(size=(120, 16)) + 3 * np.eye(16)[1]
    owners, names = np.repeat(np.arange(60), 2), [f"{row}.jpg" for row in range(60)]
    path = Embeddings(images.astype("float32"), texts.astype("float32"), owners, names, [""] * 120).save(
        tmp_path / "p.safetensors"
    )
    flags = [str(path), "--documents", "pairs", "--removers", "z_score", "--output", str(tmp_path / "out")]
    assert main([*flags, "--splits", "2", "--k", "1000"]) == 0
    printed = capsys.readouterr().out
    assert "NDCG both" in printed and all(len(line) <= 100 for line in printed.splitlines()[:-1])
    record = json.loads(Path(printed.splitlines()[-1]).read_text())
    assert record["protocol"]["documents"] == "pairs"
    assert record["methods"]["adaptive"]["metrics"]["ndcg_both"] > 0.9
    assert list(record["methods"])[: len(RIVALS)] == list(RIVALS)
    qrels = tmp_path / "j.qrels"
    qrels.write_text("".join(f"image:{row} 0 {row + 1}.jpg 1\n" for row in range(0, 40, 2)))
    assert main([*flags, "--qrels", str(qrels), "--fit-on", str(path)]) == 0
    record = json.loads(Path(capsys.readouterr().out.splitlines()[-1]).read_text())
    assert record["methods"]["raw"]["queries"] == 20
    assert record["methods"]["raw"]["metrics"]["relevant_text_share_image_queries"] == 0.5
    assert main([str(path), "--documents", "ids", "--output", str(tmp_path)]) == 2
    assert "--documents ids: needs --qrels" in capsys.readouterr().err
    np.save(tmp_path / "one.npy", np.stack([images, texts[::2]]).astype("float32"))
    assert main([str(tmp_path / "one.npy"), "--documents", "pairs", "--output", str(tmp_path)]) == 2
    assert "none is left to ask" in capsys.readouterr().err
