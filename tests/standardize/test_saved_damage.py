"""Damaged files of fitted removers: the checksum, and what sums of unit vectors can be.

Run: python -m pytest tests/standardize/test_saved_damage.py
"""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from i0t import Embeddings, I0TError
from i0t.standardize.registry import load_remover
from i0t.standardize.second_moments import Whitening


@pytest.fixture
def means(tmp_path):
    rng = np.random.default_rng(0)
    ids = [str(row) for row in range(20)]
    vectors = Embeddings(rng.normal(1, 1, (20, 4)), rng.normal(-1, 1, (20, 4)), np.arange(20), ids, ids)
    return Whitening().fit_embeddings(vectors).save(tmp_path / "means.safetensors")


def rewrite(path, change, keep_checksum=False):
    """Change tensors and header of a file in place; by default as an older file, which has no checksum."""
    with safe_open(path, framework="numpy") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not keep_checksum:
        del header["checksum"]
    change(tensors, header)
    save_file(tensors, path, metadata=header)


def test_older_files_without_a_checksum_load(means):
    before = Whitening.load(means)
    rewrite(means, lambda tensors, header: None)
    assert Whitening.load(means).fingerprint == before.fingerprint


def test_every_flipped_byte_is_noticed(means):
    content, known = means.read_bytes(), Whitening.load(means).fingerprint
    for place in range(8, len(content), 7):
        means.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert Whitening.load(means).fingerprint == known  # the checksum's own name
        except I0TError as error:
            assert "means.safetensors: " in str(error)


def filled(name, value):
    return lambda tensors, _: tensors.update({name: np.full_like(tensors[name], value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (filled("image_sum", 1e3), "image_sum: 20 unit vectors cannot have a sum"),
        (filled("image_sum", np.nan), "image_sum: 20 unit vectors cannot have a sum"),
        (filled("counts", -3), "image_sum: -3 unit vectors"),
        (filled("text_product_sum", np.nan), "text_product_sum: cannot be second moments"),
        (filled("text_product_sum", 0), "text_product_sum: cannot be second moments"),
        (lambda tensors, _: tensors.update(counts=np.zeros(2)), "counts: float64"),
        (lambda tensors, _: tensors.update(counts=np.zeros(3, np.int64)), r"counts: int64 of shape \(3,\)"),
        (lambda tensors, _: tensors.update(text_sum=np.zeros(3)), r"text_sum: float64 of shape \(3,\)"),
        (lambda tensors, _: tensors.update(image_sum=np.zeros(())), "image_sum"),
        (lambda tensors, _: tensors.update(items_counts=np.zeros(1, np.int64)), "items_counts"),
        (lambda tensors, _: tensors.pop("items_text_words"), "items_text_words"),
        (lambda tensors, _: tensors["items_text_words"][:2].fill(9), "items_text_words: not sorted"),
        (lambda _, header: header.update(remover="[]"), "remover: expected the name"),
        (lambda _, header: header.update(parameters='"x"'), "parameters: expected an object"),
        (lambda _, header: header.update(parameters='{"shrinkage": "x"}'), "do not suit Whitening"),
        (lambda _, header: header.update(parameters='{"alpha": 1}'), "do not suit Whitening"),
        (lambda _, header: header.update(provenance='{"dim": "x"}'), '"dim" is "x", not a whole number'),
        (lambda _, header: header.update(provenance='{"merged": [3]}'), "not an object"),
    ],
)
def test_impossible_statistics_are_refused_with_the_field(means, change, message):
    rewrite(means, change)
    with pytest.raises(I0TError, match=rf"means\.safetensors: .*{message}"):
        load_remover(means)
