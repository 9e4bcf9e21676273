"""Mixed search: metrics against hand-worked cases and scikit-learn, the index, judgments, the program.

Run: python -m pytest tests/test_search_eval.py
"""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from real_data import FEATURES, needs_features
from sklearn.metrics import ndcg_score, roc_auc_score

from evaluation.table import main as table
from i0t.__main__ import main as run
from i0t.commands.search_eval import main
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.metrics import one_scale_auc, ranked_search_metrics
from i0t.metrics.mixed_search import tie_weights
from i0t.metrics.resampling import random_split
from i0t.search import (
    MixedTask,
    VectorIndex,
    either_kind,
    evaluate_splits,
    layout_of_qrels,
    read_qrels,
)
from i0t.search.qrels import read_placed, without_relevant
from i0t.search.results import MethodResult
from i0t.search.rivals import RULES
from i0t.standardize import Standardizer, ZScore


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def gapped_pairs(
    n: int = 60, dim: int = 16, gap: float = 4.0, seed: int = 0, noise: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that agree, each modality in a cone of its own."""
    rng = np.random.default_rng(seed)
    common, offset = rng.normal(size=(n, dim)), gap * np.eye(dim)[0]
    one, other = noise * rng.normal(size=(2, n, dim))
    return unit(common + one + offset).astype("float32"), unit(common + other - offset).astype("float32")


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "pairs.npy"
    np.save(path, np.stack(gapped_pairs()))
    return path


# --- metrics --------------------------------------------------------------------------------


def test_ndcg_of_a_hand_worked_case():
    # Relevant: items 0 (grade 3), 1 (grade 2), 2 (grade 1). Returned in the first three: 1, 9, 0.
    # DCG = 2/log2(2) + 0 + 3/log2(4) = 2 + 1.5; ideal = 3 + 2/log2(3) + 1/log2(4), item 2 included though not returned.
    places = np.array([[1, 9, 0, 8]])
    metrics = ranked_search_metrics(
        places, np.array([[0.9, 0.8, 0.7, 0.1]]), [[0, 0], [0, 1], [0, 2]], [3, 2, 1], np.arange(10) >= 5, k=3
    )
    assert metrics["ndcg"][0] == pytest.approx(3.5 / (3 + 2 / np.log2(3) + 0.5))
    assert metrics["recall"][0] == pytest.approx(2 / 3)
    assert metrics["text_share"][0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_agrees_with_scikit_learn_ties_included(ties, k):
    rng = np.random.default_rng(3)
    grades = rng.integers(0, 4, size=(20, 30)) * (rng.random((20, 30)) < 0.3)
    grades[:, 0] += 1  # scikit-learn has no value for a query without a relevant item
    scores = rng.integers(0, 5, size=(20, 30)).astype(float) if ties else rng.random((20, 30))
    order = np.argsort(-scores, axis=1)
    judged = np.argwhere(grades > 0)
    metrics = ranked_search_metrics(
        order, np.take_along_axis(scores, order, axis=1), judged, grades[grades > 0], np.zeros(30), k
    )
    expected = [ndcg_score(grades[[row]], scores[[row]], k=k) for row in range(20)]
    np.testing.assert_allclose(metrics["ndcg"], expected, atol=1e-12)


def test_ties_are_worth_their_average_over_all_orders():
    rng = np.random.default_rng(0)
    scores = np.array([[3.0, 2.0, 2.0, 2.0, 1.0]])
    discounts, top = tie_weights(scores, k=3)
    seen = np.zeros((2, 5))
    for _ in range(20_000):
        order = np.lexsort([rng.random(5), -scores[0]])
        rank = np.argsort(order)
        seen += [np.where(rank < 3, 1 / np.log2(rank + 2), 0), rank < 3]
    np.testing.assert_allclose([discounts[0], top[0]], seen / 20_000, atol=0.01)


def test_metrics_refuse_queries_that_have_no_answer():
    with pytest.raises(I0TError, match="query 1 has no relevant item"):
        ranked_search_metrics([[0], [0]], [[1.0], [1.0]], [[0, 0]], [1], [True])
    with pytest.raises(I0TError, match="above 0"):
        ranked_search_metrics([[0]], [[1.0]], [[0, 0]], [0], [True])


def test_one_scale_auc_of_a_hand_worked_case():
    # Images at 0 and 60 degrees, captions at 30 and 180: matched 0.866, -0.5; image-image 0.5.
    images = np.array([[1, 0], [0.5, np.sqrt(0.75)]])
    texts = np.array([[np.sqrt(0.75), 0.5], [-1, 0]])
    areas = one_scale_auc(images, texts)
    assert areas["above_picture"] == 0.5  # 0.866 > 0.5, -0.5 < 0.5
    assert areas["above_text"] == 1.0  # both above cos(150 degrees) = -0.866
    assert areas["above_unmatched"] == 0.5  # 0.866 > -1, but -0.5 < cos(30 degrees)


def test_one_scale_auc_agrees_with_scikit_learn_anchor_by_anchor():
    images, texts = gapped_pairs(25, seed=4)
    areas = one_scale_auc(images, texts)
    for name, (one, other) in {"above_picture": (images, images), "above_unmatched": (images, texts)}.items():
        cosines = one.astype(float) @ other.astype(float).T
        matched = np.sum(images.astype(float) * texts, axis=1)
        each = [
            roc_auc_score([1] + [0] * 24, [matched[row], *np.delete(cosines[row], row)]) for row in range(len(images))
        ]
        assert areas[name] == pytest.approx(np.mean(each), abs=1e-3)  # float32 against float64


@pytest.mark.parametrize(("copies", "dim"), [(7, 512), (50, 512), (333, 768)])
def test_one_scale_auc_of_a_collapsed_model_is_chance(copies, dim):
    """BLAS sums the edge of a matrix in another order, so equal cosines of two products may differ."""
    vector = np.random.default_rng(0).normal(size=(1, dim)).astype(np.float32)
    same = np.repeat(vector, copies, axis=0)
    assert set(one_scale_auc(same, same.copy()).values()) == {0.5}


def test_one_scale_auc_leaves_copies_of_a_caption_open():
    rng = np.random.default_rng(1)
    images, caption = rng.normal(size=(50, 512)), rng.normal(size=(1, 512))
    areas = one_scale_auc(images, np.repeat(caption, 50, axis=0))
    assert areas["above_unmatched"] == 0.5 and areas["above_text"] == 0.0
    # Copies of one caption tie, and of two captions the nearer one's 25 copies win.
    two = rng.normal(size=(2, 512))
    nearer = unit(images) @ unit(two).T
    own = np.arange(50) % 2
    wins = np.where(nearer[np.arange(50), own] > nearer[np.arange(50), 1 - own], 25, 0) + 24 / 2
    assert one_scale_auc(images, two[own])["above_unmatched"] == pytest.approx(wins.mean() / 49, abs=1e-12)


# --- the index ------------------------------------------------------------------------------


def test_flat_index_ranks_as_all_cosines_do():
    rng = np.random.default_rng(0)
    corpus, queries = rng.normal(size=(50, 8)), rng.normal(size=(7, 8))
    places, scores = VectorIndex(corpus).search(queries, k=5)
    cosines = unit(queries) @ unit(corpus).T
    np.testing.assert_array_equal(places[:, :5], np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(scores[:, :5], -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


def test_copies_come_back_together_and_past_k():
    corpus = np.eye(4)[[0, 1, 0, 2, 0]]
    places, scores = VectorIndex(corpus).search(np.eye(4)[:1], k=1)
    assert sorted(places[0, :3].tolist()) == [0, 2, 4]
    assert scores[0, :3].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_a_model_that_maps_everything_to_one_point_scores_as_chance(kind):
    n, k = 40, 10
    same = np.ones((n, 16), dtype="float32")
    layout = either_kind(np.stack([np.arange(n)] * 2, axis=1), n)
    per_query = MixedTask(same, same, layout, kind).quality(None, k)
    np.testing.assert_allclose(per_query["recall"], k / n)
    np.testing.assert_allclose(per_query["text_share"], 0.5)
    np.testing.assert_allclose(per_query["ndcg"], np.sum(1 / np.log2(np.arange(k) + 2)) / n)


def test_ivfpq_is_nearly_flat_and_says_what_it_is():
    images, texts = gapped_pairs(400, dim=32, gap=0.0)
    layout = either_kind(np.stack([np.arange(400)] * 2, axis=1), 400)
    flat = MixedTask(images, texts, layout, "flat").quality(None)
    task = MixedTask(images, texts, layout, "ivfpq")
    approximate = task.quality(None)
    assert 0.5 < approximate["ndcg"].mean() < flat["ndcg"].mean()
    assert task.description == {"factory": "IVF10,PQ4x7np", "nprobe": 4}


@pytest.mark.parametrize("kind", ["OPQ4,IVF9,PQ4x4", "PCA8,IVF9,Flat", "IVF9,PQ4x4,RFlat"])
def test_inverted_lists_within_another_index_are_probed_and_reported(kind):
    images, _ = gapped_pairs(400)
    index = VectorIndex(images, kind)
    assert index.description == {"factory": kind, "nprobe": 3}
    wide = index.search(images, k=50)[0]
    faiss.extract_index_ivf(index._index).nprobe = 1
    narrow = index.search(images, k=50)[0]
    assert (narrow < 0).sum() > (wide < 0).sum()  # the search did look into more lists


def test_an_index_that_faiss_cannot_build_is_reported_in_one_line():
    with pytest.raises(I0TError, match="--index IVF900,Flat: faiss cannot build it on 4 vectors of 4 dimensions"):
        VectorIndex(np.eye(4), "IVF900,Flat")
    with pytest.raises(I0TError, match="3 vectors per item"):
        VectorIndex(np.ones((4, 3, 8)))


# --- the task -------------------------------------------------------------------------------


def test_centring_repairs_what_the_gap_breaks():
    rows = gapped_pairs(200, noise=0.5)
    names = [str(row) for row in range(200)]
    embeddings = Embeddings(*rows, np.arange(200), names, names)
    results = evaluate_splits(embeddings, lambda x, y: {"raw": None, "centred": Standardizer().fit(x, y)}, splits=4)
    raw, centred = (results[name].mean() for name in ("raw", "centred"))
    assert raw["ndcg"] < 0.05 and centred["ndcg"] > 0.6
    assert raw["text_share_text_queries"] > 0.95 and raw["text_share_image_queries"] < 0.05
    assert abs(centred["text_share_text_queries"] - 0.5) < 0.15
    assert raw["above_picture"] < 0.1 and centred["above_picture"] > 0.95
    low, high = results["centred"].interval()
    assert low < centred["ndcg"] < high


def test_the_fitted_half_is_never_searched():
    rows = gapped_pairs(31)
    names = [str(row) for row in range(31)]
    embeddings = Embeddings(*rows, np.arange(31), names, names)
    fitted_on = []
    results = evaluate_splits(embeddings, lambda x, y: fitted_on.append(x) or {"raw": None}, splits=6)
    assert {len(images) for images in fitted_on} == {16}  # and 15 of 31 are searched
    searched = [random_split(31, np.random.default_rng([0, split]))[1] for split in range(6)]
    assert results["raw"].groups == len(np.unique(searched))
    assert len({images.tobytes() for images in fitted_on}) == 6


def test_the_interval_covers_the_mean_of_its_kind():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        result = MethodResult(sums={"ndcg": rng.beta(1, 2, size=80)}, counts={"ndcg": np.ones(80)})
        low, high = result.interval(resamples=300)
        hits += low <= 1 / 3 <= high
    assert 0.88 <= hits / 200 <= 0.99


@needs_features
def test_the_numbers_on_real_clip_embeddings():
    images, texts = np.load(FEATURES)
    names = [str(row) for row in range(500)]
    embeddings = Embeddings(images, texts, np.arange(500), names, names)

    def fit(x: np.ndarray, y: np.ndarray) -> dict:
        return {"raw": None, "centred": Standardizer().fit(x, y), "z_score": ZScore().fit(x, y)}

    means = {name: result.mean() for name, result in evaluate_splits(embeddings, fit).items()}
    assert means["raw"]["ndcg"] < 0.01 and means["raw"]["above_picture"] < 0.02
    assert means["centred"]["ndcg"] >= 0.35 and means["centred"]["above_picture"] >= 0.94
    assert means["z_score"]["ndcg"] >= 0.42


# --- judgments ------------------------------------------------------------------------------

JUDGED = [("q", "a.jpg", 2.0), ("q", "t1", 1.0), ("image:2", "text:0", 1.0)]


def written(folder: Path, form: str) -> Path:
    path = folder / f"judged.{form}"
    rows = [*JUDGED, ("q", "text:0", 0.0)]
    if form == "qrels":
        path.write_text("".join(f"{query} 0 {document} {grade:g}\n" for query, document, grade in rows))
    elif form == "tsv":
        lines = [f"{query}\t{document}\t{grade:g}\n" for query, document, grade in rows]
        path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    elif form == "json":
        path.write_text(json.dumps([dict(zip(("query_id", "doc_id", "relevance"), row)) for row in rows]))
    else:
        columns = dict(zip(("query_id", "doc_id", "relevance"), zip(*rows)))
        parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), path)
    return path


@pytest.fixture
def judged_corpus() -> Embeddings:
    eye = np.eye(4, dtype="float32")
    texts = eye[[0, 3]]
    metadata = {"text_ids": ["q", "t1"]}
    return Embeddings(eye[:3], texts, np.array([-1, -1]), ["a.jpg", "b.jpg", "c.jpg"], ["", ""], metadata=metadata)


@pytest.mark.parametrize("form", ["qrels", "tsv", "json", "parquet"])
def test_judgments_of_every_form_read_alike(tmp_path, form):
    assert read_qrels(written(tmp_path, form)) == JUDGED


@pytest.mark.parametrize("form", ["qrels", "tsv", "json"])
def test_judgments_with_a_byte_order_mark_read_alike(tmp_path, form):
    path = written(tmp_path, form)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_qrels(path) == JUDGED


def test_a_query_twice_in_judgments_of_json_is_refused(tmp_path):
    path = tmp_path / "judged.json"
    path.write_text('{"q": {"a.jpg": 1}, "q": {"t1": 1}}')
    with pytest.raises(I0TError, match=r'judged\.json: the key "q" is given twice'):
        read_qrels(path)
    path.write_text('{"q": {}, "t1": {"a.jpg": 1}}')  # without q, its item would become a document
    with pytest.raises(I0TError, match=r"judged\.json: query q lists no document"):
        read_qrels(path)


def test_ids_as_numbers_and_as_strings_are_one_id(tmp_path):
    rows = [{"query_id": 7, "doc_id": "1", "relevance": 1}, {"query_id": "7", "doc_id": 2, "relevance": 1}]
    (tmp_path / "judged.json").write_text(json.dumps(rows))
    expected = [("7", "1", 1.0), ("7", "2", 1.0)]
    assert read_qrels(tmp_path / "judged.json") == expected
    columns = {"query_id": [7.0, 7.0], "doc_id": [1, 2], "relevance": [1, 1]}  # floats: a table with missing values
    parquet.write_table(pyarrow.table(columns), tmp_path / "judged.parquet")
    assert read_qrels(tmp_path / "judged.parquet") == expected
    rows[1]["doc_id"] = 1
    (tmp_path / "judged.json").write_text(json.dumps(rows))
    with pytest.raises(I0TError, match="entry 1: query 7 and document 1 are judged twice"):
        read_qrels(tmp_path / "judged.json")


@pytest.mark.parametrize("value", [None, True, 1.5, ["q"]])
def test_an_id_that_is_none_is_refused_by_entry(tmp_path, value):
    path = tmp_path / "judged.json"
    path.write_text(json.dumps([{"query_id": value, "doc_id": "a", "relevance": 1}]))
    with pytest.raises(I0TError, match=r"entry 0: query_id is .*, expected a string or a whole number"):
        read_qrels(path)


def test_judgments_as_a_nested_json_object(tmp_path):
    path = tmp_path / "judged.json"
    path.write_text(json.dumps({"q": {"a.jpg": 2, "t1": 1, "text:0": 0}, "image:2": {"text:0": 1}}))
    assert read_qrels(path) == JUDGED


def test_layout_of_judgments_takes_queries_out_of_the_index(judged_corpus):
    layout, images, texts = layout_of_qrels([("q", "a.jpg", 2.0), ("q", "t1", 1.0)], judged_corpus)
    assert layout.queries.tolist() == [3]
    assert layout.corpus.tolist() == [0, 1, 2, 4]
    per_query = MixedTask(images, texts, layout).quality(None, k=1)
    assert per_query["ndcg"][0] == 1.0  # a.jpg is the query itself, and its grade is the best
    assert per_query["recall"][0] == 0.5


def test_layout_with_queries_of_their_own(judged_corpus):
    eye = np.eye(4, dtype="float32")
    asking = Embeddings(eye[:1], eye[[3]], np.array([-1]), ["asked.jpg"], [""], metadata={"text_ids": ["asked"]})
    layout, images, texts = layout_of_qrels([("asked", "t1", 1.0), ("image:0", "a.jpg", 1.0)], judged_corpus, asking)
    assert layout.corpus.tolist() == [0, 1, 2, 4, 5]  # images 0-2 and the asking one, then texts
    per_query = MixedTask(images, texts, layout).quality(None, k=1)
    assert per_query["recall"].tolist() == [1.0, 0.5]  # a.jpg ties with the first text
    assert layout.query_is_text.tolist() == [True, False]


def test_queries_judged_irrelevant_only_are_left_out_and_no_documents(judged_corpus, tmp_path):
    path = tmp_path / "judged.qrels"
    path.write_text("q 0 a.jpg 2\nq 0 b.jpg 0\nt1 0 b.jpg 0\nt1 0 gone.jpg -1\n")
    judgments, places = read_placed(path)
    assert without_relevant(judgments) == ["t1"]
    layout, _, _ = layout_of_qrels(judgments, judged_corpus, places=places)
    assert layout.queries.tolist() == [3] and layout.corpus.tolist() == [0, 1, 2]  # not 4, the text t1
    assert (layout.judged.tolist(), layout.grades.tolist()) == ([[0, 0]], [2.0])
    path.write_text("q 0 a.jpg 2\nt2 0 b.jpg 0\n")  # a query that is no item: its item would be a document
    with pytest.raises(I0TError, match="line 2: no item is called 't2'"):
        layout_of_qrels(*read_placed(path)[:1], judged_corpus, places=read_placed(path)[1])


@pytest.mark.parametrize(
    ("judgments", "message"),
    [
        ([("q", "a.jpg", 1.0), ("text:0", "b.jpg", 1.0)], "q and text:0 are the same"),
        ([("q", "a.jpg", 1.0), ("q", "image:0", 2.0)], "query q, document a.jpg and .* image:0 are the same"),
    ],
)
def test_two_names_of_one_item_are_refused(judged_corpus, judgments, message):
    with pytest.raises(I0TError, match=message):
        layout_of_qrels(judgments, judged_corpus)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a.jpg\n", "line 1: 3 columns"),
        ("q 0 a.jpg one\n", "line 1: the grade 'one' is not a number"),
        ("q 0 a.jpg 1\n\nq 0 a.jpg 2\n", "line 3: query q and document a.jpg are judged twice"),
        ("q 0 a.jpg 1_0\n", "line 1: the grade '1_0' is not a number"),
        ("q 0 a.jpg \u0661\n", "line 1: the grade .* is not a number"),
        ("q 0 a.jpg 0\n", "no relevant document"),
    ],
)
def test_bad_judgments_name_the_line(tmp_path, text, message):
    path = tmp_path / "bad.qrels"
    path.write_text(text)
    with pytest.raises(I0TError, match=message):
        read_qrels(path)


def test_unknown_ids_are_reported(judged_corpus):
    with pytest.raises(I0TError, match="no item is called 'z.jpg'"):
        layout_of_qrels([("q", "z.jpg", 1.0)], judged_corpus)
    with pytest.raises(I0TError, match="is itself a query"):
        layout_of_qrels([("q", "a.jpg", 1.0), ("t1", "text:0", 1.0)], judged_corpus)


# --- the program ----------------------------------------------------------------------------


def test_program_prints_a_table_and_leaves_a_record(pairs_file, tmp_path, capsys):
    flags = [str(pairs_file), "--splits", "3", "--output", str(tmp_path)]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 100 for line in printed.splitlines()[:-1])  # the last is the record's path
    record = json.loads(Path(printed.splitlines()[-1]).read_text())
    rivals = list(RULES)
    removers, forms = ["i0t_post", "z_score", "whitening"], ["constants", "adaptive"]
    both = [f"{remover}+{form}" for remover in removers for form in forms]
    assert list(record["methods"]) == ["raw", *rivals, *removers, *forms, *both]
    low, high = record["methods"]["whitening+adaptive"]["intervals_95"]["kept"]
    assert low < record["methods"]["whitening+adaptive"]["metrics"]["kept"] < high
    assert record["protocol"]["means_leak"] is False
    assert len(record["data"]["data_sha256"]) == 64
    assert record["methods"]["raw"]["metrics"]["ndcg"] < 0.1 < record["methods"]["i0t_post"]["metrics"]["ndcg"]
    assert main([*flags, "--removers", "i0t_post", "--index", "ivfpq"]) == 0
    records = sorted(map(str, tmp_path.glob("search-pairs-*.json")))
    assert len(records) == 2  # its own name, nothing overwritten
    capsys.readouterr()
    assert table([records[0]]) == 0 and "raw_ndcg" in capsys.readouterr().out  # a record as any other


def test_program_finds_by_content_that_evaluated_items_were_fitted(pairs_file, tmp_path, capsys):
    assert main([str(pairs_file), "--fit-on", str(pairs_file), "--output", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "a leak" in output.out and "100.0 % of the images" in output.err

    copy = np.load(pairs_file)[:, :30]  # half of the same pairs, in another file
    np.save(tmp_path / "copy.npy", copy)
    assert main([str(pairs_file), "--fit-on", str(tmp_path / "copy.npy"), "--output", str(tmp_path)]) == 0
    assert "50.0 % of the images" in capsys.readouterr().err

    np.save(tmp_path / "other.npy", np.stack(gapped_pairs(seed=9)))
    assert main([str(pairs_file), "--fit-on", str(tmp_path / "other.npy"), "--output", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "leak" not in output.out + output.err


def test_program_with_judgments(tmp_path, capsys):
    images, texts = gapped_pairs(40)
    names = [f"{row}.jpg" for row in range(40)]
    Embeddings(images, texts, np.arange(40), names, names, metadata={"model": "m"}).save(tmp_path / "c.safetensors")
    (tmp_path / "j.qrels").write_text("".join(f"text:{row} 0 {row}.jpg 1\n" for row in range(20)))
    flags = [str(tmp_path / "c.safetensors"), "--qrels", str(tmp_path / "j.qrels"), "--output", str(tmp_path)]
    assert main(flags) == 2
    assert "--fit-on FILE" in capsys.readouterr().err
    np.save(tmp_path / "other.npy", np.stack(gapped_pairs(seed=9)))
    assert main([*flags, "--fit-on", str(tmp_path / "other.npy")]) == 0
    record = json.loads(Path(capsys.readouterr().out.splitlines()[-1]).read_text())
    assert record["methods"]["raw"]["queries"] == 20
    assert record["methods"]["raw"]["metrics"]["text_share_image_queries"] is None  # no image asked
    assert record["methods"]["raw"]["metrics"]["corpus_text_share"] == pytest.approx(20 / 60)


def test_program_refuses_means_of_another_model(pairs_file, tmp_path, capsys):
    images, texts = gapped_pairs(20)
    names = [str(row) for row in range(20)]
    for model in ("one", "two"):
        meta = {"model": model}
        Embeddings(images, texts, np.arange(20), names, names, metadata=meta).save(tmp_path / f"{model}.safetensors")
    flags = [str(tmp_path / "one.safetensors"), "--fit-on", str(tmp_path / "two.safetensors")]
    assert main([*flags, "--output", str(tmp_path)]) == 2
    assert "model two" in capsys.readouterr().err


def test_several_vectors_per_item_are_reported_and_not_searched(tmp_path, capsys):
    images, texts = gapped_pairs(20)
    names = [str(row) for row in range(20)]
    several = np.stack([images, texts], axis=1)
    path = str(Embeddings(several, texts, np.arange(20), names, names).save(tmp_path / "several.safetensors"))
    (tmp_path / "j.qrels").write_text("text:0 0 image:1 1\n")
    for more in ([], ["--fit-on", path], ["--fit-on", path, "--qrels", str(tmp_path / "j.qrels"), "--queries", path]):
        assert main([path, *more, "--output", str(tmp_path)]) == 2
        assert "2 vectors per item, as BLIP-2 has" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--fit-on", "x.npy", "--splits", "3"], ["--fit-on", "x.npy", "--seed", "1"]])
def test_flags_without_effect_are_refused(pairs_file, flags, capsys):
    with pytest.raises(SystemExit):
        main([str(pairs_file), *flags])
    assert "--splits and --seed are for random splits" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--splits=0", "--k=-1", "--seed=-1"])
def test_numbers_out_of_range_are_refused_by_the_flag(pairs_file, flag, capsys):
    with pytest.raises(SystemExit):
        main([str(pairs_file), flag])
    assert f"argument {flag.partition('=')[0]}: {flag.partition('=')[2]} is" in capsys.readouterr().err


def test_none_is_no_method(pairs_file, tmp_path, capsys):
    assert main([str(pairs_file), "--removers", "none", "--output", str(tmp_path / "out")]) == 2
    assert "--removers none: name what removes the gap: i0t_post, z_score" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.npy"), "--output", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_program_names_file_and_line_of_an_unknown_item(pairs_file, tmp_path, capsys):
    qrels = tmp_path / "j.qrels"
    flags = [str(pairs_file), "--fit-on", str(pairs_file), "--qrels", str(qrels), "--output", str(tmp_path)]
    qrels.write_text("text:0 0 image:2 0\ntext:0 0 image:1 1\n\ntext:0 0 text:9999 1\n")
    assert main(flags) == 2
    assert f"{qrels}: line 4: no item is called 'text:9999' (document)" in capsys.readouterr().err
    qrels.write_text("text:0 0 image:1 1\ntext:9999 0 image:1 1\n")
    assert main(flags) == 2
    assert f"{qrels}: line 2: no item is called 'text:9999' (query)" in capsys.readouterr().err
    qrels.write_text("text:0 0 image:1 1\n")
    assert main(flags) == 0
    assert "\n1 query; " in capsys.readouterr().out


def test_program_says_which_half_of_the_question_is_judged(pairs_file, tmp_path, capsys):
    qrels = tmp_path / "j.qrels"
    flags = [str(pairs_file), "--fit-on", str(pairs_file), "--qrels", str(qrels), "--output", str(tmp_path)]
    for relevant, missing in (("image:{}", "the query's own"), ("text:{}", "the other")):
        qrels.write_text("".join(f"text:{row} 0 {relevant.format(row + 1)} 1\n" for row in range(0, 40, 2)))
        assert main([*flags, "--removers", "i0t_post"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"No relevant item is of {missing} kind, so only half" in printed
        assert "With so few queries (20) the intervals are too short." in printed
    qrels.write_text(
        "".join(f"text:{row} 0 {kind}:{row + 1} 1\n" for row in range(0, 58, 2) for kind in ("text", "image"))
    )
    assert main([*flags, "--removers", "i0t_post"]) == 0
    assert "so only half" not in capsys.readouterr().out


@pytest.mark.parametrize("program", ["search-eval", "advise", "cutoff"])
def test_images_in_classes_are_no_pairs(tmp_path, capsys, program):
    images, texts = gapped_pairs(40)
    names = [str(row) for row in range(40)]
    classes = Embeddings(images, texts[:10], np.full(10, -1), names, names[:10], labels=np.arange(40) % 10)
    assert run([program, str(classes.save(tmp_path / "classes.safetensors"))]) == 2
    assert capsys.readouterr().err.startswith("error: The images are in classes")
