"""The contract of `encode`: which items stay, prompts, prefix, what is recorded, the cache, shares, all programs."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_clip import TEXTS

from evaluation import retrieval
from i0t import I0TError
from i0t.cli import add_common_flags, add_encoding_flags, encode_options
from i0t.commands import gap, score
from i0t.data.items import Items
from i0t.encoders import PRECISIONS, EncodeOptions
from i0t.encoders.encode import encode, encode_pictures, encode_texts

PLAIN = EncodeOptions(batch_size=2, skip_unreadable=True, cache=False, progress=False)
NAMES = [f"{row}.jpg" for row in range(7)]


@pytest.fixture
def items(spoiled) -> Items:
    """Seven images, of which 0, 2 and 6 can be read, and texts with all kinds of owners."""
    owners = [[0], [1], [2], [1, 6, 0], [3, -1], [-1], [4, 5]]
    return Items(
        spoiled, NAMES, TEXTS[:7], owners, labels=[0, 1, 2, 3, 2, 1, 0], metadata={"dataset": "mine", "split": "test"}
    )


def test_what_stays_is_what_can_be_read(small, items):
    found = encode(small, replace(items, labels=None), PLAIN)
    assert found.image_ids == ["0.jpg", "2.jpg", "6.jpg"]
    assert found.texts == [TEXTS[row] for row in (0, 2, 3, 4, 5)]  # 1 and 6 belong to unreadable images only
    assert found.image_of_text.tolist() == [0, 1, 2, -1, -1]  # the first readable owner
    readable = [items.images[row] for row in (0, 2, 6)]
    expected = small.encode_images(readable).numpy()  # in other batches, which moves the last bits
    np.testing.assert_allclose(found.image_features, expected, atol=1e-6)
    assert np.array_equal(found.text_features, encode_texts(small, found.texts, PLAIN).features)
    assert found.labels is None
    with pytest.raises(I0TError, match=r"1\.jpg: unreadable image.*--skip-unreadable"):
        encode(small, items, replace(PLAIN, skip_unreadable=False))
    with pytest.raises(I0TError, match="no text to encode"):
        encode(small, Items(readable, NAMES[:3], [], []), PLAIN)


def test_metadata_are_those_of_the_items_and_of_the_encoding(small, items):
    found = encode(small, replace(items, texts=["star " * 100, *items.texts[1:]]), PLAIN)
    assert len(found.metadata.pop("unreadable")) == 4
    assert len(found.metadata.pop("images_sha256")) == 64
    assert found.metadata == {
        "dataset": "mine",
        "split": "test",
        "model": "small",
        "fingerprint": small.fingerprint,
        "dtype": "float32",
        "precision": "fp32",
        "exif_orientation": "ignored",
        "truncated_texts": 1,
        "from_cache": {"images": False, "texts": False},
    }
    assert found.labels.tolist() == [0, 2, 0]


@pytest.mark.parametrize("normalize", [True, False])
def test_a_text_of_prompts_is_their_mean(small, items, normalize):
    prompts = [[f"a photo of a {name}.", f"a small and blurred picture of one {name}."] for name in ("star", "circle")]
    classes = Items(items.images, NAMES, ["star", "circle"], [[-1], [-1]], prompts=prompts, normalize_prompts=normalize)
    found = encode(small, classes, PLAIN)
    assert found.texts == ["star", "circle"] and found.image_of_text.tolist() == [-1, -1]
    for features, own in zip(found.text_features, prompts, strict=True):
        mean = small.encode_texts(own, normalize=normalize).numpy().mean(axis=0)
        np.testing.assert_allclose(features, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_prefix_stands_before_every_text(small, items):
    found = encode(small, replace(items, prefix="A photo depicts "), PLAIN)
    assert found.texts == [f"A photo depicts {TEXTS[row]}" for row in (0, 2, 3, 4, 5)]
    assert np.array_equal(found.text_features, encode_texts(small, found.texts, PLAIN).features)


def test_equal_texts_have_equal_bits(small, items):
    texts = [*TEXTS[:5], TEXTS[1]]
    found = encode(small, replace(items, texts=texts, owners=[[0]] * 6, labels=None), PLAIN)
    assert np.array_equal(found.text_features[1], found.text_features[5])


def test_found_in_the_cache_is_as_encoded(small, items):
    cached = replace(PLAIN, cache=True)
    first, again = encode(small, items, cached), encode(small, items, cached)
    plain = encode(small, items, PLAIN)
    assert again.metadata.pop("from_cache") == {"images": True, "texts": True}
    assert first.metadata.pop("from_cache") == plain.metadata.pop("from_cache") == {"images": False, "texts": False}
    for other in (first, again):
        assert_equal(other, plain)


def test_processes_give_what_one_gives(small, items, in_shares):
    shared = in_shares(lambda: encode(small, items, replace(PLAIN, share=True)))
    assert_equal(shared, encode(small, items, PLAIN))


def assert_equal(one, other):
    for name in ("image_features", "text_features", "image_of_text", "labels"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.image_ids, one.texts, one.metadata) == (other.image_ids, other.texts, other.metadata)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_gives_unit_float32(small, pictures, precision):
    items = Items(pictures, NAMES[:5], TEXTS, [[-1]] * len(TEXTS))
    found = encode(small, items, replace(PLAIN, precision=precision))
    for features in (found.image_features, found.text_features):
        assert features.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-5)
    assert found.metadata["precision"] == ("fp32" if precision == "auto" else precision)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": NAMES[:2]}, "7 images, but 2 image_ids"),
        ({"labels": [0]}, "7 images, but 1 labels"),
        ({"owners": [[0]]}, "7 texts, but 1 owners"),
        ({"prompts": [["a"]]}, "7 texts, but 1 prompts"),
        ({"prompts": [["a"]] * 6 + [["a", "b"]]}, "as many prompts"),
        ({"owners": [[0]] * 6 + [[7]]}, r"owners of text 6 are \[7\]"),
        ({"owners": [[]] * 7}, "owners of text 0"),
    ],
)
def test_items_that_do_not_fit_together(items, changes, message):
    with pytest.raises(I0TError, match=message):
        replace(items, **changes)


# --- the programs ----------------------------------------------------------------------------


def test_flags_become_options():
    parser = argparse.ArgumentParser()
    add_encoding_flags(parser)
    add_common_flags(parser)
    assert encode_options(parser.parse_args(["--workers", "0"])) == EncodeOptions(share=True)
    flags = ["--batch-size", "3", "--workers", "2", "--precision", "bf16", "--skip-unreadable", "--no-cache"]
    options = encode_options(parser.parse_args(flags), share=False)
    assert options == EncodeOptions(3, 2, "bf16", skip_unreadable=True, cache=False)


PROGRAMS = {
    "retrieval": (retrieval.main, ["--dataset", "flickr"]),
    "gap": (gap.main, ["--dataset", "flickr", "--bootstrap", "0"]),
    "score": (score.main, ["--caption", "a dog", "--caption", "a cat", "--calibrate-on", "flickr"]),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_cache_and_precision(program, configs, tmp_path, monkeypatch, capsys):
    main, flags = PROGRAMS[program]
    precisions: list[str] = []
    flags = [*flags, "--model", "tiny", "--workers", "0", "--output", str(tmp_path)]
    assert main(flags) == 0
    printed = capsys.readouterr().out.splitlines()[:5]
    autocast = "i0t.encoders.encode.autocast"
    monkeypatch.setattr(autocast, lambda device, precision: precisions.append(precision) or pytest.fail("encoded"))
    assert main(flags) == 0  # all found in the cache
    assert capsys.readouterr().out.splitlines()[:5] == printed
    for more in (["--no-cache"], ["--precision", "bf16"]):
        with pytest.raises(pytest.fail.Exception, match="encoded"):
            main([*flags, *more])
    assert precisions == ["auto", "bf16"]


def test_tokenizers_get_whole_letters_only(small):
    """Tokenizers of transformers refuse half a surrogate pair with a TypeError."""
    seen, own = [], small.tokenize
    small.tokenize = lambda texts: seen.extend(texts) or own(texts)
    found = encode_texts(small, ["a \ud83d star", "a \ud83d\ude00 star", "ein Stern, groß"], PLAIN)
    assert seen == ["a \ufffd star", "a \U0001f600 star", "ein Stern, groß"]
    assert len(found.features) == 3


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN or infinite"), (0.0, "zero")])
def test_features_without_a_direction_are_refused_and_not_kept(small, pictures, value, kind, tmp_path, monkeypatch):
    """As of damaged weights, or of numbers that are too large for fp16."""
    monkeypatch.setenv("I0T_CACHE", str(tmp_path))
    with torch.no_grad():
        small.model.text_projection.fill_(value)
        small.model.visual.proj.fill_(value)
    with pytest.raises(I0TError, match=rf"small: text 'a cat': its features are {kind} \(1 of 1 items\)"):
        encode_texts(small, ["a cat"], replace(PLAIN, cache=True))
    with pytest.raises(I0TError, match=rf"small: image .*: its features are {kind} \(5 of 5 items\)"):
        encode_pictures(small, pictures, replace(PLAIN, cache=True))
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(I0TError, match="take precision bf16 or fp32" if kind != "zero" else "no direction"):
        small.encode_texts(["a cat"], precision="fp16")
