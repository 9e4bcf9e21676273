"""`--embeddings`: the three evaluations on embeddings from another program.

Run: python -m pytest tests/test_given_embeddings.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation import classification, correlation, retrieval
from evaluation.retrieval import Retrieval
from i0t import Embeddings, I0TError, Standardizer
from i0t.embeddings import load_embeddings
from i0t.metrics import retrieval_metrics

PROGRAMS = {"retrieval": retrieval, "classification": classification, "correlation": correlation}
DATASETS = {"retrieval": "flickr", "classification": "birdsnap", "correlation": "flickr8k_expert"}


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run a program; returns its one record and the embeddings beside it."""

    def run(program, *flags: str) -> tuple[dict, Embeddings]:
        assert program.main(["--output", str(tmp_path / "out"), "--workers", "0", *map(str, flags)]) == 0
        path = Path(capsys.readouterr().out.splitlines()[-1])
        return json.loads(path.read_text()), Embeddings.load(path.with_suffix(".embeddings.safetensors"))

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run a program that must refuse its flags; returns the message."""

    def run(program, *flags: str) -> str:
        assert program.main(["--output", str(tmp_path / "out"), *map(str, flags)]) == 2
        assert not list((tmp_path / "out").glob("*.json"))
        return capsys.readouterr().err

    return run


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path files that name folders that do not exist, so that reading data fails."""
    folder = tmp_path / "no_configs"
    folder.mkdir()
    for name in ("root.txt", "subroot.txt"):
        (folder / name).write_text("/nowhere\n")
    monkeypatch.setenv("I0T_CONFIGS", str(folder))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Images and texts of 30 pairs, with a gap, not of unit length."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 8))
    texts = images + rng.normal(size=(30, 8)) + np.eye(8)[0] * 4
    return images.astype(np.float32), texts.astype(np.float32)


def saved(folder: Path, **arrays: np.ndarray) -> list[Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return [folder / f"{name}.npy" for name in arrays]


def test_npy_pair_needs_no_data_set(evaluate, no_data, pair, tmp_path):
    files = saved(tmp_path, images=pair[0], texts=pair[1])
    flags = ["--embeddings", *files, "--remove-gap", "i0t_post", "--fit-on", "test"]
    record, embeddings = evaluate(retrieval, *flags)
    assert record["metrics"]["i2t_r1"] > 20
    moved = Standardizer().fit(*pair)
    expected = retrieval_metrics(moved.transform_image(pair[0]), moved.transform_text(pair[1]), np.arange(30))
    assert record["metrics"] == pytest.approx(expected)
    assert record["gap"]["centroid_distance"] < 0.1 < record["gap_before"]["centroid_distance"]
    assert record["protocol"]["means_leak"] is True
    assert record["protocol"]["captions_per_image"] == 1
    assert record["config"]["model"]["name"] == "images+texts"
    assert record["config"]["model"]["files"] == [str(path) for path in files]
    assert record["data"]["built_in_sample"] is False
    assert np.linalg.norm(embeddings.image_features, axis=1) == pytest.approx(1)
    one_file, _ = evaluate(retrieval, "--embeddings", *saved(tmp_path, both=np.stack(pair)), *flags[3:])
    assert one_file["metrics"] == record["metrics"]
    # Means from the evaluated file itself are the leak that they are, by whichever name.
    both = tmp_path / "both.npy"
    again, _ = evaluate(retrieval, "--embeddings", both, "--remove-gap", "i0t_post", "--fit-on", both)
    assert again["protocol"]["fit_on"] == "test" and again["protocol"]["means_leak"] is True


def test_other_npy_files_give_other_records(evaluate, no_data, pair, tmp_path):
    evaluate(retrieval, "--embeddings", *saved(tmp_path, images=pair[0], texts=pair[1]))
    evaluate(retrieval, "--embeddings", *saved(tmp_path, images=pair[0] + 1, texts=pair[1]))
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_another_seed_or_count_of_resamples_is_another_record(evaluate, no_data, pair, tmp_path):
    flags = ["--embeddings", *saved(tmp_path, images=pair[0], texts=pair[1])]
    protocols = [evaluate(retrieval, *flags, *more)[0]["protocol"] for more in ([], ["--bootstrap", 50], ["--seed", 1])]
    assert len(list((tmp_path / "out").glob("*.json"))) == 3
    assert protocols[0] == protocols[1] == protocols[2]  # so they still stand in one table


def test_means_come_from_another_file_but_not_from_training_pairs(evaluate, refused, no_data, pair, tmp_path):
    files = saved(tmp_path, images=pair[0], texts=pair[1])
    flags = ["--embeddings", *files, "--remove-gap", "i0t_post", "--fit-on"]
    assert "the training pairs must be encoded by the model itself" in refused(retrieval, *flags, "train")
    (other,) = saved(tmp_path, other=np.stack([pair[0] + 1, pair[1] + 1]))
    record, _ = evaluate(retrieval, *flags, other)
    assert record["protocol"]["fit_on"] == "embeddings"
    assert record["protocol"]["means_leak"] is False
    assert set(record["protocol"]["fit_overlap"].values()) == {0.0}
    means = Standardizer().fit(*pair, origin={"fit_on": "elsewhere"}).save(tmp_path / "means.safetensors")
    from_means, _ = evaluate(retrieval, *flags, means)
    from_test, _ = evaluate(retrieval, *flags, "test")
    assert from_means["metrics"] == from_test["metrics"]
    assert from_means["protocol"]["means_leak"] is None  # bare arrays: no items, no data set


def test_means_of_evaluated_items_are_a_leak_under_any_name(evaluate, no_data, pair, tmp_path):
    files = saved(tmp_path, images=pair[0], texts=pair[1])
    flags = ["--embeddings", *files, "--remove-gap", "i0t_post", "--fit-on"]

    def protocol(path: Path) -> dict:
        return evaluate(retrieval, *flags, path)[0]["protocol"]

    for name, stacked, shares in (
        ("both", np.stack(pair), (1.0, 1.0)),
        ("texts_alone", np.stack([pair[0] + 1, pair[1]]), (0.0, 1.0)),
        ("a_third", np.stack([pair[0][:10], pair[1][:10] + 1]), (1 / 3, 0.0)),
    ):
        found = protocol(*saved(tmp_path, **{name: stacked}))
        assert found["means_leak"] is True, name
        assert (found["fit_overlap"]["image_vectors"], found["fit_overlap"]["text_vectors"]) == pytest.approx(shares)
    fitted = Standardizer().fit_embeddings(load_embeddings(files))
    assert protocol(fitted.save(tmp_path / "means.safetensors"))["means_leak"] is True
    # A file's name is no data set: other pairs in a file of the same name leak nothing.
    (tmp_path / "elsewhere").mkdir()
    assert protocol(*saved(tmp_path / "elsewhere", images=np.stack(pair) + 1))["means_leak"] is False


def test_means_of_a_file_that_names_no_split_are_a_leak(evaluate, configs, pair, tmp_path):
    """The evaluated file itself fitted before, and the same data set by name where no items are known."""
    names = [f"{row}.jpg" for row in range(30)]
    meta = {"model": "mine", "dataset": "mine"}
    given = Embeddings(*pair, np.arange(30), names, [f"caption {name}" for name in names], metadata=meta)
    flags = ["--embeddings", given.save(tmp_path / "e.safetensors"), "--remove-gap", "i0t_post", "--fit-on"]
    fitted = {
        "items": Standardizer().fit_embeddings(given),
        "names": Standardizer().fit(*pair, origin=meta),
        "train": Standardizer().fit(*pair, origin={**meta, "split": "train"}),
    }
    leaks = {}
    for name, remover in fitted.items():
        record, _ = evaluate(retrieval, *flags, remover.save(tmp_path / f"{name}.safetensors"))
        leaks[name] = record["protocol"]["means_leak"]
    assert leaks == {"items": True, "names": True, "train": False}
    # What a run saves beside its record is known again, whatever it is called.
    evaluate(retrieval, *flags, "test")
    (means,) = (
        path
        for path in (tmp_path / "out").glob("*.means.safetensors")
        if Standardizer.load(path).origin.fit_on == "test"
    )
    moved = means.rename(tmp_path / "moved.safetensors")
    assert evaluate(retrieval, *flags, moved)[0]["protocol"]["fit_overlap"]["text_words"] == 1.0


def test_vectors_per_image_score_their_best(evaluate, no_data, pair, tmp_path):
    queries = np.stack([np.random.default_rng(1).normal(size=pair[0].shape), pair[0]], axis=1)  # (N, 2, D)
    files = saved(tmp_path, images=queries, texts=pair[1])
    for flags in ([], ["--remove-gap", "i0t_post"], ["--remove-gap", "mind_the_gap"]):
        record, embeddings = evaluate(retrieval, "--embeddings", *files, *flags)
        assert embeddings.image_features.shape == (30, 2, 8)
    assert record["metrics"]["i2t_r1"] > 0


@pytest.mark.parametrize("task", PROGRAMS)
def test_what_a_program_saved_can_be_given_to_it(task, configs, evaluate, tmp_path):
    program, dataset = PROGRAMS[task], DATASETS[task]
    first, _ = evaluate(program, "--model", "tiny", "--dataset", dataset, "--remove-gap", "i0t_post")
    file = next((tmp_path / "out").glob(f"{task}-{dataset}-*.embeddings.safetensors"))
    given = file.rename(tmp_path / "given.safetensors")
    second, _ = evaluate(program, "--embeddings", given, "--remove-gap", "i0t_post")
    for key in ("task", "dataset", "metrics", "gap", "gap_before", "data", "protocol"):
        if key == "data":
            first[key].pop("built_in_sample"), second[key].pop("built_in_sample")
        assert second[key] == first[key], key
    assert second["config"]["model"]["fingerprint"] == first["config"]["model"]["fingerprint"]


@pytest.fixture
def ours(configs, evaluate, tmp_path):
    """Embeddings of a task's data set as a program encodes them."""

    def encode(task: str) -> Embeddings:
        return evaluate(PROGRAMS[task], "--model", "tiny", "--dataset", DATASETS[task], "--output", tmp_path / "e")[1]

    return encode


def changed(embeddings: Embeddings, tmp_path: Path, **parts: object) -> Path:
    return replace(embeddings, **parts).save(tmp_path / "changed.safetensors")


def test_classification_needs_its_own_images_labels_and_classes(ours, refused, tmp_path):
    given = ours("classification")
    flags = [classification, "--embeddings", tmp_path / "changed.safetensors"]
    changed(given, tmp_path, labels=None, image_of_text=np.zeros(len(given.texts), int))
    assert "no labels" in refused(*flags)
    changed(given, tmp_path, texts=given.texts[::-1])
    assert "class names of birdsnap in order" in refused(*flags)
    changed(given, tmp_path, labels=np.roll(given.labels, 1))
    assert f"image {given.image_ids[0]} of class" in refused(*flags)
    changed(given, tmp_path, image_ids=["other.jpg", *given.image_ids[1:]])
    assert "image other.jpg" in refused(*flags)
    few = {"image_features": given.image_features[1:], "image_ids": given.image_ids[1:], "labels": given.labels[1:]}
    changed(given, tmp_path, **few)
    assert f"1 of the {len(given.image_ids)} images of birdsnap are missing" in refused(*flags)
    changed(given, tmp_path, metadata={key: given.metadata[key] for key in ("model",)})
    assert "name their data set: --dataset cifar100 or birdsnap" in refused(*flags)


def test_unreadable_images_of_the_producer_may_be_missing(ours, evaluate, tmp_path):
    given = ours("classification")
    few = {"image_features": given.image_features[1:], "image_ids": given.image_ids[1:], "labels": given.labels[1:]}
    file = changed(given, tmp_path, **few, metadata={**given.metadata, "unreadable": ["first: broken"]})
    record, _ = evaluate(classification, "--embeddings", file)
    assert record["data"]["images"] == len(given.image_ids) - 1
    assert record["data"]["unreadable_pictures"] == 1


def test_correlation_needs_every_image_and_text(ours, refused, tmp_path):
    given = ours("correlation")
    flags = [correlation, "--embeddings", tmp_path / "changed.safetensors"]
    changed(given, tmp_path, texts=[text.replace("A photo depicts ", "") for text in given.texts])
    assert "no text 'A photo depicts" in refused(*flags)
    changed(given, tmp_path, image_ids=["other.jpg", *given.image_ids[1:]])
    assert "1 of the 8 images of flickr8k_expert are missing" in refused(*flags)
    assert "not of --dataset flickr8k_cf" in refused(*flags, "--dataset", "flickr8k_cf")


def test_files_of_another_task_or_kind_are_refused(ours, refused, pair, tmp_path):
    given = ours("retrieval").save(tmp_path / "given.safetensors")
    assert "embeddings for retrieval, not for correlation" in refused(correlation, "--embeddings", given)
    npy = saved(tmp_path, images=pair[0], texts=pair[1])
    assert "name their data set" in refused(correlation, "--embeddings", *npy)
    for program, dataset in ((correlation, "flickr8k_cf"), (classification, "birdsnap")):
        message = refused(program, "--embeddings", *npy, "--dataset", dataset)
        assert "images of flickr8k_cf are missing" in message or "no labels" in message
    assert "give an Embeddings file" in refused(retrieval, "--embeddings", given, npy[0])
    assert "no such file" in refused(retrieval, "--embeddings", tmp_path / "gone.safetensors")
    bare = ours("retrieval")
    changed(bare, tmp_path, image_of_text=np.zeros(len(bare.texts), int))
    assert "images have no text" in refused(retrieval, "--embeddings", tmp_path / "changed.safetensors")
    with pytest.raises(SystemExit):
        retrieval.main(["--model", "tiny", "--embeddings", str(given)])


def test_embeddings_that_claim_a_data_set_must_be_its_items(evaluate, refused, configs, ours, pair, tmp_path):
    """Of a file that names its items, images and texts; else the counts."""
    flags = [retrieval, "--embeddings", *saved(tmp_path, images=pair[0], texts=pair[1]), "--dataset", "flickr"]
    assert "30 images and 30 texts, but flickr has" in refused(*flags)
    elsewhere = ["--output", tmp_path / "elsewhere"]
    record, _ = evaluate(*flags, "--allow-partial", *elsewhere)
    assert record["data"]["completeness"]["state"] == "partial" and record["data"]["completeness"]["images"] == 30
    given = ours("retrieval")
    foreign = {key: value for key, value in given.metadata.items() if key not in ("completeness", "task")}
    flags = [retrieval, "--embeddings", changed(given, tmp_path, metadata=foreign), "--dataset", "flickr"]
    assert evaluate(*flags, *elsewhere)[0]["data"]["completeness"]["state"] == "complete"
    for parts, message in (
        ({"image_ids": ["other.jpg", *given.image_ids[1:]]}, "image other.jpg is none of flickr"),
        ({"image_ids": [given.image_ids[1], *given.image_ids[1:]]}, f"image {given.image_ids[1]} is there twice"),
        ({"texts": given.texts[::-1]}, f"is no caption of {given.image_ids[0]}"),
    ):
        changed(given, tmp_path, **parts, metadata=foreign)
        assert message in refused(*flags)
        assert evaluate(*flags, "--allow-partial", *elsewhere)[0]["data"]["completeness"]["state"] == "partial"


def test_without_its_data_set_the_known_counts_are_compared(evaluate, refused, configs, pair, tmp_path):
    (configs / "root.txt").write_text(""), (configs / "subroot.txt").write_text("")
    flags = [retrieval, "--embeddings", *saved(tmp_path, images=pair[0], texts=pair[1]), "--dataset", "flickr"]
    assert "but flickr has 1000 images" in refused(*flags)
    thousand = saved(tmp_path, images=np.tile(pair[0], (34, 1))[:1000], texts=np.tile(pair[1], (34, 1))[:1000])
    record, _ = evaluate(retrieval, "--embeddings", *thousand, "--dataset", "flickr")
    assert record["data"]["completeness"]["state"] == "not checked"


def test_protocol_counts_the_captions_there_are():
    def protocol(owners: list[int]) -> object:
        eye = np.eye(len(owners))
        given = Embeddings(eye[: max(owners) + 1], eye, np.array(owners), [""] * (max(owners) + 1), [""] * len(owners))
        return Retrieval().protocol(given)["captions_per_image"]

    assert protocol([0, 1, 2]) == 1
    assert protocol([0, 0, 1, 1, -1]) == 2
    assert protocol([0, 0, 1]) == "1-2"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((3, 4))}, r"must hold images and texts, \(2, N, D\), but its shape is \(3, 4\)"),
        ({"a": np.ones((3, 3, 4))}, r"\(2, N, D\)"),
        ({"a": np.ones((3, 4)), "b": np.ones((2, 4))}, "do not pair up row by row"),
        ({"a": np.ones((3, 4)), "b": np.ones((3, 5))}, "5 dimensions, expected 4"),
        ({"a": np.ones((3, 4)), "b": np.ones((3, 2, 4))}, "do not pair up row by row"),
        ({"a": np.ones((3, 4), int), "b": np.ones((3, 4))}, "dtype int64"),
        ({"a": np.array([[1.0, 0], [np.nan, 1]]), "b": np.ones((2, 2))}, "row 1 holds NaN"),
        ({"a": np.ones((2, 2)), "b": np.array([[1.0, 0], [0, 0]])}, "b.npy: texts: row 1 has zero length"),
        ({"a": np.ones((0, 2)), "b": np.ones((0, 2))}, "empty"),
        ({"a": np.array(["x"]), "b": np.ones((1, 2))}, "a.npy: images"),
        ({"a": np.ones((1, 2)), "b": np.ones((1, 2)), "c": np.ones((1, 2))}, "give an Embeddings file"),
    ],
)
def test_arrays_that_are_no_pairs(arrays, message, tmp_path):
    with pytest.raises(I0TError, match=message):
        load_embeddings(saved(tmp_path, **arrays))


def test_files_that_are_no_arrays(tmp_path):
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "archive.npz", a=np.ones(2))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "objects.npy", np.array([{}, None]))
    for name in ("text", "empty", "archive", "objects", "gone"):
        with pytest.raises(I0TError, match=rf"{name}\.npy: "):
            load_embeddings([tmp_path / f"{name}.npy"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_vectors_keep_their_bits(dtype, tmp_path):
    vectors = np.eye(3, dtype=dtype)
    loaded = load_embeddings(saved(tmp_path, a=vectors, b=vectors * 7))
    assert loaded.image_features.dtype == np.float32
    assert np.array_equal(loaded.image_features, np.eye(3)) and np.array_equal(loaded.text_features, np.eye(3))
