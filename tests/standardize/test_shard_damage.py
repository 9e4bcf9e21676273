"""Shards of other widths and number formats, and damaged notes of finished ones.

Run: python -m pytest tests/standardize/test_shard_damage.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from i0t import Embeddings, I0TError, Standardizer
from i0t.standardize.engines import Engine
from i0t.standardize.shard_processes import apply_shards, fit_shards
from i0t.standardize.shards import Shard


def test_shard_of_another_width_is_named(tmp_path):
    for name, dim in (("a", 6), ("b", 5), ("c", 5)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(9, dim)))
    shards = {name: Shard(tmp_path / f"{name}.npy") for name in "abc"}
    for modalities in (("image", "image"), ("image", "text")):
        work = list(zip(modalities, (shards["a"], shards["b"])))
        with pytest.raises(I0TError, match=r"b\.npy: .*5 dimensions, expected 6"):
            fit_shards(Standardizer, work, Engine())


def test_bfloat16_shards_are_read_and_stay_so(tmp_path):
    vectors = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"vectors": vectors, "other": torch.arange(3)}, tmp_path / "a.safetensors")
    shard = Shard(tmp_path / "a.safetensors")
    assert np.array_equal(np.concatenate([block for _, block in shard.blocks()]), vectors.float().numpy())
    assert shard.rewrite(tmp_path / "b.safetensors", lambda block, start: 2 * block) == 9
    moved = load_file(tmp_path / "b.safetensors")
    assert moved["vectors"].dtype == torch.bfloat16 and torch.equal(moved["vectors"], 2 * vectors)


def test_moved_embeddings_do_not_keep_the_checksum(tmp_path):
    eye = np.eye(3)
    Embeddings(eye, eye, np.arange(3), list("abc"), list("xyz")).save(tmp_path / "e.safetensors")
    Shard(tmp_path / "e.safetensors", "image_features").rewrite(tmp_path / "m.safetensors", lambda block, _: -block)
    assert Embeddings.load(tmp_path / "m.safetensors").image_features.tolist() == (-eye).tolist()


@pytest.mark.parametrize("content", ["", "[]", '{"rows": ', "3"])
def test_damaged_notes_mean_that_a_shard_is_moved_again(tmp_path, content):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(9, 6)))
    remover = Standardizer().fit(np.eye(6), np.eye(6)[:3])
    work = [(("image", Shard(tmp_path / "a.npy")), tmp_path / "out" / "a.npy")]
    assert apply_shards(remover, work, tmp_path / "out", Engine()) == (9, 0)
    assert apply_shards(remover, work, tmp_path / "out", Engine()) == (0, 1)
    next((tmp_path / "out" / "i0t_apply").iterdir()).write_text(content)
    assert apply_shards(remover, work, tmp_path / "out", Engine()) == (9, 0)
