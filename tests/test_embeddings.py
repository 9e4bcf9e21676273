"""The Embeddings file: nothing is lost, contradictions and foreign files are refused.

Run: python -m pytest tests/test_embeddings.py
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from i0t import Embeddings, I0TError, Standardizer, load_embeddings
from i0t.embeddings import FORMAT
from i0t.features import l2_normalize, unit_vectors
from i0t.reading import safetensors_format
from i0t.standardize.registry import load_remover

TEXTS = ["", "größer ☃", "大きな赤い星", "👩‍👩‍👧 \U0001f1f0\U0001f1f7", 'a "quoted"\nline\t\\ and \x00 end', "عربى"]


def embeddings(queries: int | None = None, labels: bool = False, seed: int = 0) -> Embeddings:
    """Four images and six texts; text 3 belongs to no image."""
    rng = np.random.default_rng(seed)
    shape = (4, 5) if queries is None else (4, queries, 5)
    return Embeddings(
        image_features=rng.normal(size=shape).astype(np.float32),
        text_features=rng.normal(size=(6, 5)).astype(np.float32),
        image_of_text=np.array([2, 0, 0, -1, 3, 1]),
        image_ids=["a.jpg", "ä b.jpg", "c/d.jpg", "a.jpg"],
        texts=TEXTS,
        labels=np.array([5, 0, 0, 2]) if labels else None,
        metadata={"model": "tiny", "nested": {"list": [1, 2.5, None, True]}, "words": TEXTS},
    )


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("queries", [None, 3])
def test_roundtrip_loses_nothing(tmp_path, queries, labels):
    saved = embeddings(queries, labels)
    path = saved.save(tmp_path / "new" / "e.safetensors")
    assert [file.name for file in path.parent.iterdir()] == ["e.safetensors"]
    loaded = Embeddings.load(str(path))
    for name in ("image_features", "text_features", "image_of_text", "labels"):
        one, other = getattr(saved, name), getattr(loaded, name)
        if one is None:
            assert other is None
            continue
        assert one.dtype == other.dtype and np.array_equal(one, other), name
    for name in ("image_ids", "texts", "metadata"):
        assert getattr(loaded, name) == getattr(saved, name)


def test_other_dtypes_and_strides_are_written_as_documented(tmp_path):
    """float32 and int64 in the file, whatever the arrays were; views are written in reading order."""
    rng = np.random.default_rng(1)
    wide, columns = rng.normal(size=(8, 10)), rng.normal(size=(5, 6))
    strided = replace(
        embeddings(),
        image_features=wide[::2, ::2],
        text_features=columns.T,
        image_of_text=np.array([2, 0, 0, -1, 3, 1], np.int32)[::-1],
    )
    path = strided.save(tmp_path / "e.safetensors")
    loaded = Embeddings.load(path)
    assert loaded.image_features.dtype == np.float32 and loaded.image_of_text.dtype == np.int64
    assert np.array_equal(loaded.image_features, wide[::2, ::2].astype(np.float32))
    assert np.array_equal(loaded.text_features, columns.T.astype(np.float32))
    assert loaded.image_of_text.tolist() == [1, 3, -1, 0, 0, 2]


def test_any_producer_may_write_one(tmp_path):
    """A file written with safetensors alone, as the format is described."""
    eye = np.eye(3, dtype=np.float32)
    header = {"format": FORMAT, "image_ids": '["a", "b", "c"]', "texts": '["x", "y", "z"]', "metadata": "{}"}
    tensors = {"image_features": eye, "text_features": eye, "image_of_text": np.array([0, 1, 2])}
    save_file(tensors, tmp_path / "e.safetensors", metadata=header)
    assert Embeddings.load(tmp_path / "e.safetensors").texts == ["x", "y", "z"]


def test_the_file_can_be_read_without_us(tmp_path):
    path = embeddings(labels=True).save(tmp_path / "e.safetensors")
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {"image_features", "text_features", "image_of_text", "labels"}
        assert json.loads(file.metadata()["texts"]) == TEXTS
    assert safetensors_format(path) == FORMAT


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = embeddings(seed=1).save(tmp_path / "e.safetensors")
    with pytest.raises(TypeError, match="not JSON serializable"):
        replace(embeddings(seed=2), metadata={"model": object()}).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["e.safetensors"]
    assert np.array_equal(Embeddings.load(path).text_features, embeddings(seed=1).text_features)


# --- what belongs together -------------------------------------------------------------------


def test_pairs_of_captions_are_in_text_order_without_the_unowned():
    assert embeddings().pairs.tolist() == [[2, 0], [0, 1], [0, 2], [3, 4], [1, 5]]
    unowned = replace(embeddings(), image_of_text=np.full(6, -1))
    assert unowned.pairs.shape == (0, 2)
    assert np.issubdtype(unowned.pairs.dtype, np.integer)


def test_pairs_of_classes_are_each_image_with_its_class():
    assert embeddings(labels=True).pairs.tolist() == [[0, 5], [1, 0], [2, 0], [3, 2]]


def test_with_features_changes_nothing_else():
    before = embeddings(labels=True)
    images, texts = -before.image_features, 2 * before.text_features
    after = before.with_features(images, texts)
    assert after.image_features is images and after.text_features is texts
    for name in ("image_of_text", "image_ids", "texts", "labels", "metadata"):
        assert getattr(after, name) is getattr(before, name)
    assert np.array_equal(before.image_features, embeddings(labels=True).image_features)
    with pytest.raises(I0TError, match="image_ids has 4 entries for 3 rows"):
        before.with_features(images[:3], texts)


# --- contradictions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_features": np.ones((3, 5))}, "image_ids has 4 entries for 3 rows"),
        ({"text_features": np.ones((7, 5))}, "image_of_text has 6 entries for 7 rows"),
        ({"text_features": np.ones((6, 4))}, "text_features: 4 dimensions, expected 5"),
        ({"image_features": np.ones((4, 2, 7))}, "text_features: 5 dimensions, expected 7"),
        ({"image_features": np.ones(5)}, "image_features: expected shape"),
        ({"image_features": np.ones((4, 5), int)}, "image_features: dtype int64"),
        ({"text_features": np.ones((0, 5))}, "text_features: empty"),
        ({"texts": TEXTS[1:]}, "texts has 5 entries for 6 rows"),
        ({"image_ids": ["a"] * 5}, "image_ids has 5 entries for 4 rows"),
        ({"labels": np.zeros(6, int)}, "labels has 6 entries for 4 rows"),
        ({"image_of_text": np.zeros(4, int)}, "image_of_text has 4 entries for 6 rows"),
        ({"image_of_text": np.array([0, 1, 2, 3, 4, 0])}, r"must lie in -1\.\.3"),
        ({"image_of_text": np.array([0, 1, 2, 3, -2, 0])}, r"must lie in -1\.\.3"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(I0TError, match=message):
        replace(embeddings(), **change)


@pytest.mark.parametrize("labels", [[5, 0, 0, 6], [5, -1, 0, 2]])
def test_labels_of_classes_that_are_not_there_are_refused(labels):
    """A label is a row of the texts, so it must lie in 0..5."""
    with pytest.raises(I0TError, match="labels"):
        replace(embeddings(), labels=np.array(labels))


# --- other files -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, share):
    path = embeddings().save(tmp_path / "e.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(I0TError, match=r"e\.safetensors: not an Embeddings file, or truncated"):
        Embeddings.load(path)
    assert safetensors_format(path) is None


def test_foreign_files_are_refused(tmp_path):
    eye = np.eye(2)
    save_file({"image_features": eye, "text_features": eye}, tmp_path / "bare.safetensors")
    save_file({"x": eye}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    Standardizer().fit(eye, eye).save(tmp_path / "means.safetensors")
    (tmp_path / "text.json").write_text(json.dumps(["not", "safetensors"] * 9))
    expected = {"bare": r" \(format None", "other": r" \(format 'pt'", "means": ", but a fitted gap remover"}
    for name, found in expected.items():
        with pytest.raises(I0TError, match=rf"{name}\.safetensors: not an Embeddings file{found}"):
            Embeddings.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(I0TError, match=r"text\.json: not an Embeddings file, or truncated"):
        Embeddings.load(tmp_path / "text.json")
    with pytest.raises(I0TError, match=r"gone: no such file"):
        Embeddings.load(tmp_path / "gone")
    assert safetensors_format(tmp_path / "means.safetensors") == "i0t-means-1"
    assert safetensors_format(tmp_path / "gone") is None
    assert safetensors_format(tmp_path) is None


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(I0TError, match=tmp_path.name):
        Embeddings.load(tmp_path)


@pytest.mark.parametrize("key", ["image_ids", "texts", "metadata"])
def test_header_that_is_no_json_is_refused_with_the_file(tmp_path, key):
    eye, path = np.eye(2, dtype=np.float32), tmp_path / "e.safetensors"
    header = {"format": FORMAT, "image_ids": '["a", "b"]', "texts": '["x", "y"]', "metadata": "{}"}
    tensors = {"image_features": eye, "text_features": eye, "image_of_text": np.arange(2)}
    save_file(tensors, path, metadata={**header, key: "['a', 'b']"})
    with pytest.raises(I0TError, match=rf"e\.safetensors: header entry {key}: not valid JSON .*json\.dumps"):
        Embeddings.load(path)


@pytest.mark.parametrize("loader", [Standardizer.load, load_remover])
@pytest.mark.parametrize("key", ["remover", "parameters", "provenance"])
def test_means_whose_header_is_no_json_are_refused_with_the_file(tmp_path, key, loader):
    path = Standardizer().fit(np.eye(2), np.eye(2)).save(tmp_path / "means.safetensors")
    with safe_open(path, framework="numpy") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["checksum"]
    save_file(tensors, path, metadata={**header, key: "{'a': 1}"})
    with pytest.raises(I0TError, match=rf"means\.safetensors: header entry {key}: not valid JSON"):
        loader(path)


@pytest.mark.parametrize("missing", ["text_features", "image_of_text", "texts", "metadata"])
def test_file_without_all_its_parts_is_refused(tmp_path, missing):
    """The right format, but an entry is missing."""
    eye = np.eye(2, dtype=np.float32)
    header = {"format": FORMAT, "image_ids": '["a", "b"]', "texts": '["x", "y"]', "metadata": "{}"}
    tensors = {"image_features": eye, "text_features": eye, "image_of_text": np.arange(2)}
    parts = ({key: value for key, value in side.items() if key != missing} for side in (tensors, header))
    save_file(next(parts), tmp_path / "half.safetensors", metadata=next(parts))
    with pytest.raises(I0TError, match=rf"half\.safetensors.*{missing}"):
        Embeddings.load(tmp_path / "half.safetensors")


def test_bfloat16_of_another_producer_is_refused_or_read(tmp_path):
    """NumPy has no bfloat16; a torch producer may well write it."""
    eye = torch.eye(2, dtype=torch.bfloat16)
    header = {"format": FORMAT, "image_ids": '["a", "b"]', "texts": '["x", "y"]', "metadata": "{}"}
    tensors = {"image_features": eye, "text_features": eye.clone(), "image_of_text": torch.arange(2)}
    save_torch_file(tensors, tmp_path / "bf16.safetensors", metadata=header)
    try:
        loaded = Embeddings.load(tmp_path / "bf16.safetensors")
    except I0TError as error:
        assert "bf16.safetensors" in str(error)
    else:
        assert np.array_equal(loaded.image_features, np.eye(2))


def written(path, header=None, **tensors):
    """An Embeddings file of two pairs, with other entries."""
    eye = np.eye(2, dtype=np.float32)
    known = {"image_features": eye, "text_features": eye, "image_of_text": np.arange(2)}
    entries = {"format": FORMAT, "image_ids": '["a", "b"]', "texts": '["x", "y"]', "metadata": "{}"}
    save_file({**known, **tensors}, path, metadata={**entries, **(header or {})})
    return path


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({}, {"image_of_text": np.zeros(2, np.float32)}, r"image_of_text: float32 of shape \(2,\), expected whole"),
        ({}, {"image_of_text": np.zeros((2, 1), np.int64)}, r"image_of_text: int64 of shape \(2, 1\)"),
        ({}, {"image_of_text": np.array([0, 2])}, r"image_of_text must lie in -1\.\.1"),
        ({}, {"labels": np.zeros(2, np.float32)}, "labels: float32"),
        ({}, {"image_features": np.ones((), np.float32)}, "image_features: expected shape"),
        ({}, {"text_features": np.zeros((2, 1, 2), np.float32)}, "text_features has shape"),
        ({"metadata": "[]"}, {}, r"metadata: expected an object: is \[\], not an object"),
        ({"metadata": "null"}, {}, "metadata: expected an object"),
        ({"metadata": '{"model": 3}'}, {}, 'metadata: expected an object: "model" is 3, not a string'),
        ({"metadata": '{"dim": "x"}'}, {}, '"dim" is "x", not a whole number'),
        ({"metadata": "[" * 100_000}, {}, "nested more than 64 levels"),
        ({"metadata": '{"n_images": ' + "9" * 5000 + "}"}, {}, "a whole number of 5000 digits"),
        ({"texts": '["x", null]'}, {}, "texts: expected a list of texts: entry 1 is null, not a string"),
        ({"image_ids": '"ab"'}, {}, "image_ids: expected a list of names"),
        ({"checksum": "00000000"}, {}, "damaged: its content does not match its checksum"),
    ],
)
def test_fields_of_another_type_are_named(tmp_path, header, tensors, message):
    with pytest.raises(I0TError, match=rf"e\.safetensors: {message}|e\.safetensors: .*{message}"):
        load_embeddings(written(tmp_path / "e.safetensors", header, **tensors))


def test_numbers_as_ids_and_small_integers_are_taken(tmp_path):
    path = written(tmp_path / "e.safetensors", {"image_ids": "[7, 8]"}, image_of_text=np.array([1, 0], np.uint8))
    loaded = load_embeddings(path)
    assert (loaded.image_ids, loaded.image_of_text.dtype) == (["7", "8"], "int64")
    assert loaded.pairs.tolist() == [[1, 0], [0, 1]]


def test_bfloat16_is_read(tmp_path):
    eye = torch.eye(2, dtype=torch.bfloat16)
    header = {"format": FORMAT, "image_ids": '["a", "b"]', "texts": '["x", "y"]', "metadata": "{}"}
    tensors = {"image_features": eye, "text_features": eye.flip(0), "image_of_text": torch.arange(2)}
    save_torch_file(tensors, tmp_path / "e.safetensors", metadata=header)
    assert load_embeddings(tmp_path / "e.safetensors").text_features.tolist() == [[0, 1], [1, 0]]


def test_flipped_bytes_of_embeddings_are_noticed(tmp_path):
    path = Embeddings(np.eye(2), np.eye(2), np.arange(2), ["a", "b"], ["x", "y"]).save(tmp_path / "e.safetensors")
    content, held = path.read_bytes(), Embeddings.load(path)
    known = held.texts, held.image_ids, held.features_sha256
    for place in range(8, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        try:
            held = Embeddings.load(path)  # of an entry that is not ours any more, such as the checksum's name
        except I0TError as error:
            assert "e.safetensors: " in str(error)
        else:
            assert (held.texts, held.image_ids, held.features_sha256) == known


@pytest.mark.parametrize(
    ("values", "message"),
    [([1e300, 0], "row 1 holds values beyond float32"), ([np.inf, 0], "row 1 holds NaN or infinite values")],
)
def test_float64_beyond_float32_is_called_so(values, message):
    with pytest.raises(I0TError, match=message):
        unit_vectors(np.array([[1.0, 0], values]), "images")


def test_lengths_beyond_their_type_are_called_so():
    with pytest.raises(I0TError, match="row 0 is too long: its squares are beyond float32"):
        l2_normalize(np.full((1, 2), 1e30, dtype=np.float32))
