"""The cache of features: found by content, never by mistake, safe with other processes; reports are kept, too.

Run: python -m pytest tests/encoders/test_encoding_cache.py
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import full_disk
from PIL import Image
from small_clip import small_clip

from evaluation import correlation, retrieval
from i0t import Encoder, I0TError, load_encoder
from i0t.commands.cache import main
from i0t.data import items as items_module
from i0t.encoders import EncodeOptions
from i0t.encoders import cache as cache_module
from i0t.encoders.cache import EncodingCache, image_key, text_key
from i0t.encoders.encode import (
    EncodedImages,
    EncodedTexts,
    autocast,
    encode_pictures,
    encode_texts,
    resolve_precision,
)

TEXTS = ["a red star", "two blue circles", "a red star", "one " * 40]


def small(context_length: int = 20) -> Encoder:
    """The same small CLIP at every call."""
    return small_clip(context_length=context_length)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five noise images, the third cut short."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:300])
    return paths


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncodingCache:
    """An empty cache that encoding uses."""
    monkeypatch.setenv(cache_module.VARIABLE, str(tmp_path / "kept"))
    return EncodingCache()


def images_of(encoder: Encoder, pictures: list, **options: Any) -> EncodedImages:
    return encode_pictures(encoder, pictures, EncodeOptions(progress=False, **options))


def texts_of(encoder: Encoder) -> EncodedTexts:
    return encode_texts(encoder, TEXTS, EncodeOptions(progress=False))


def refuse(*_: object) -> None:
    raise AssertionError("encoded although it was cached")


def test_second_time_nothing_is_encoded_and_the_report_is_the_same(pictures, cache):
    encoder = small()
    images, texts = images_of(encoder, pictures, skip_unreadable=True), texts_of(encoder)
    assert images.kept == [0, 1, 3, 4]
    assert len(images.unreadable) == 1 and "c.png" in images.unreadable[0]
    assert texts.truncated == 1
    assert not images.from_cache and not texts.from_cache

    again = small()  # the same weights in another object
    again.features_of_pixels = again.features_of_tokens = refuse
    found, found_texts = images_of(again, pictures, skip_unreadable=True), texts_of(again)
    assert np.array_equal(found.features, images.features) and np.array_equal(found_texts.features, texts.features)
    assert (found.kept, found.unreadable, found_texts.truncated) == (images.kept, images.unreadable, 1)
    assert found.from_cache and found_texts.from_cache
    assert len(cache.files()) == 2


def test_cached_features_are_those_encoded_without_a_cache(pictures, cache):
    encoder, readable = small(), [pictures[0], pictures[1]]
    plain = encoder.encode_images(readable).numpy(), encoder.encode_texts(TEXTS).numpy()
    assert cache.files() == []
    for _ in range(2):
        assert np.array_equal(images_of(encoder, readable).features, plain[0])
        assert np.array_equal(texts_of(encoder).features, plain[1])


def test_images_that_a_skipping_run_left_out_still_stop_a_strict_one(pictures, cache):
    encoder = small()
    images_of(encoder, pictures, skip_unreadable=True)
    with pytest.raises(I0TError, match=r"c\.png: unreadable"):
        images_of(encoder, pictures)


def test_a_run_that_stops_keeps_nothing(pictures, cache):
    with pytest.raises(I0TError, match="unreadable"):
        images_of(small(), pictures)
    assert cache.files() == []


def keys_of(encoder: Encoder, images: list, texts: list[str], precision: str = "fp32") -> tuple[str, str]:
    tokens = encoder.tokenize(texts)
    return key_of_images(encoder, images, precision), text_key(encoder.computed_with(precision), texts, tokens)


def key_of_images(encoder: Encoder, images: list, precision: str = "fp32") -> str:
    return image_key(encoder.computed_with(precision), encoder.preprocess, images)


def test_key_changes_with_whatever_changes_the_numbers(pictures):
    encoder = small()
    image, text = keys_of(encoder, pictures, TEXTS)
    assert keys_of(small(), pictures, TEXTS) == (image, text)

    changed = small()
    with torch.no_grad():
        changed.model.logit_scale += 1
    heads = small()
    heads.heads = torch.nn.Identity()  # no weights: the same fingerprint
    assert keys_of(heads, pictures, TEXTS) == (image, text)
    assert set(keys_of(changed, pictures, TEXTS)).isdisjoint((image, text))
    assert set(keys_of(encoder, pictures, TEXTS, "bf16")).isdisjoint((image, text))
    assert set(keys_of(small(context_length=21), pictures, TEXTS)).isdisjoint((image, text))

    # Of the images alone:
    squashing, own = small(), encoder.preprocess
    squashing.preprocess = lambda picture: own(picture.resize((32, 32)))  # the fingerprint does not know
    assert keys_of(squashing, pictures, TEXTS) == (keys_of(squashing, pictures, TEXTS)[0], text)
    assert keys_of(squashing, pictures, TEXTS)[0] != image
    for others in (pictures[:4], pictures[::-1], [*pictures, pictures[0]]):
        assert keys_of(encoder, others, TEXTS) == (keys_of(encoder, others, TEXTS)[0], text)
        assert keys_of(encoder, others, TEXTS)[0] != image

    # Of the texts alone:
    for others in (TEXTS[:3], TEXTS[::-1], ["A photo depicts " + text for text in TEXTS], ["a red", " star", *TEXTS]):
        assert keys_of(encoder, pictures, others)[0] == image
        assert keys_of(encoder, pictures, others)[1] != text
    tokens = encoder.tokenize(TEXTS)
    assert text_key(encoder.computed_with("fp32"), TEXTS, tokens.flip(1)) != text  # another tokenizer


def test_an_image_written_anew_is_encoded_anew(pictures):
    encoder, stat = small(), pictures[0].stat()
    key = key_of_images(encoder, pictures)
    os.utime(pictures[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # same size, a nanosecond later
    later = key_of_images(encoder, pictures)
    pictures[0].write_bytes(pictures[0].read_bytes() + b"\0")
    os.utime(pictures[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same time, a byte longer
    longer = key_of_images(encoder, pictures)
    pictures[0].unlink()
    assert len({key, later, longer, key_of_images(encoder, pictures)}) == 4


def test_a_damaged_image_replaced_in_size_and_time_is_encoded_anew(pictures):
    """As copies with their times are."""
    encoder, stat, raw = small(), pictures[0].stat(), pictures[0].read_bytes()
    key = key_of_images(encoder, pictures)
    pictures[0].write_bytes(raw[:-20] + bytes(20))
    os.utime(pictures[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert key_of_images(encoder, pictures) != key


def test_damaged_images_of_a_skipping_run_are_tried_again(pictures, cache, monkeypatch):
    """Nothing of the file need change: a codec was missing, or memory."""
    encoder, decode = small(), items_module.decoded

    def lacking(source, upright=False):
        if Path(source).name == "a.png":
            raise OSError("decoder not available")
        return decode(source, upright)

    monkeypatch.setattr(items_module, "decoded", lacking)
    few = images_of(encoder, pictures, skip_unreadable=True)
    assert images_of(encoder, pictures, skip_unreadable=True).from_cache
    monkeypatch.undo()
    monkeypatch.setenv(cache_module.VARIABLE, str(cache.folder))
    all_there = images_of(encoder, pictures, skip_unreadable=True)
    assert (all_there.from_cache, len(all_there.kept)) == (False, len(few.kept) + 1)
    assert all_there.sha256 != few.sha256 and images_of(encoder, pictures, skip_unreadable=True).from_cache


def test_images_in_memory_count_by_their_pixels(pictures):
    encoder, picture = small(), Image.open(pictures[0])
    key = key_of_images(encoder, [picture])
    assert key_of_images(encoder, [picture.copy()]) == key
    dotted = picture.copy()
    dotted.putpixel((0, 0), (1, 2, 3))
    assert key_of_images(encoder, [dotted]) != key


def flipped(raw: bytes) -> bytes:
    """One bit of a feature."""
    return raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * 500, flipped])
def test_damaged_entry_is_reported_and_replaced(cache, capsys, damage):
    encoder = small()
    texts = texts_of(encoder)
    (path,) = cache.files()
    path.write_bytes(damage(path.read_bytes()))
    again = texts_of(encoder)
    assert np.array_equal(again.features, texts.features) and not again.from_cache
    assert f"encoding again ({path}" in capsys.readouterr().err
    assert texts_of(encoder).from_cache


def test_folder_that_cannot_be_written_costs_the_cache_only(tmp_path, monkeypatch, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    monkeypatch.setenv(cache_module.VARIABLE, str(locked))
    assert np.array_equal(texts_of(small()).features, small().encode_texts(TEXTS).numpy())
    assert "Cache: not kept" in capsys.readouterr().err


def test_writers_at_one_time_leave_one_whole_file(cache):
    features = np.random.default_rng(0).normal(size=(2000, 64))
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: (cache.save("k" * 64, features, {"n": 1}), cache.load("k" * 64))[1], range(24)):
            assert found is not None and np.array_equal(found[0], features)
    assert [path.name for path in cache.folder.iterdir()] == [f"{'k' * 40}.safetensors"]


def test_ten_evaluations_encode_once(configs, tmp_path, monkeypatch):
    """1 and 5 captions share the images; another remover shares all; --no-cache neither reads nor writes."""
    out = ["--model", "tiny", "--dataset", "flickr", "--workers", "0", "--output", str(tmp_path / "out")]

    def from_cache(*flags: str) -> dict:
        before = set((tmp_path / "out").glob("*.json"))
        assert retrieval.main([*out, *flags]) == 0
        (new,) = set((tmp_path / "out").glob("*.json")) - before
        return json.loads(new.read_text())["data"]["from_cache"]

    assert from_cache() == {"images": False, "texts": False}
    assert from_cache("--captions-per-image", "5") == {"images": True, "texts": False}
    monkeypatch.setattr(Encoder, "features_of_pixels", refuse)
    monkeypatch.setattr(Encoder, "features_of_tokens", refuse)
    for remover in (["i0t_post"], ["mind_the_gap"], ["mind_the_gap", "--shift-lambda", "0.5"]):
        assert from_cache("--remove-gap", *remover) == {"images": True, "texts": True}
    with pytest.raises(AssertionError, match="encoded although"):
        retrieval.main([*out, "--no-cache"])
    monkeypatch.undo()
    monkeypatch.setenv("I0T_CONFIGS", str(configs))
    monkeypatch.setenv("I0T_CACHE", str(tmp_path / "untouched"))
    assert retrieval.main([*out, "--no-cache", "--precision", "bf16"]) == 0
    assert not (tmp_path / "untouched").exists()


def test_scores_of_one_prefix_share_all(configs, tmp_path):
    out = ["--model", "tiny", "--dataset", "flickr8k_expert", "--workers", "0", "--output", str(tmp_path / "out")]
    for flags in ([], ["--score", "pac_s"], ["--average-ratings"]):
        assert correlation.main([*out, *flags]) == 0
    records = sorted((json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")), key=_created)
    assert len(records) == 3
    assert sum(record["data"]["from_cache"]["images"] for record in records) == 2
    assert sum(record["data"]["from_cache"]["texts"] for record in records) == 2


def _created(record: dict) -> str:
    return record["created"]


def test_cache_is_shown_and_cleared(cache, capsys):
    texts_of(small())
    (cache.folder / "broken.safetensors").write_bytes(b"x")
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "3 texts" in shown and "3x16" in shown and "damaged" in shown and "2 entries" in shown
    assert time.strftime("%Y-") in shown
    assert main(["--clear"]) == 0
    assert str(cache.folder) in capsys.readouterr().out
    assert cache.files() == []
    assert main([]) == 0
    assert "0 entries" in capsys.readouterr().out


# --- precision -------------------------------------------------------------------------------


def test_precision_is_what_was_asked_for():
    cpu, x = torch.device("cpu"), torch.randn(4, 4)
    assert resolve_precision(cpu) == "fp32"
    assert resolve_precision(torch.device("cuda"), "fp32") == "fp32"
    for precision, dtype in (("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(cpu, precision):
            assert (x @ x).dtype == dtype
    with pytest.raises(I0TError, match="int8"):
        resolve_precision(cpu, "int8")


def test_bf16_is_near_fp32_but_not_it():
    encoder = load_encoder("tiny")
    full, half = encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS, precision="bf16")
    assert half.dtype == torch.float32
    assert 0 < float((full - half).abs().max()) < 0.02
    assert torch.allclose(half.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-5)


def test_full_disk_costs_the_cache_only_and_is_said_once(cache, capsys):
    with full_disk(100):
        for encoder in (small(), small(), small()):
            assert np.array_equal(texts_of(encoder).features, small().encode_texts(TEXTS).numpy())
    assert capsys.readouterr().err.count("Cache: not kept") == 1
    assert not list(cache.folder.iterdir())
