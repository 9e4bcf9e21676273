"""Pictures: deep greys scaled or refused, and pictures that decoders, preprocessing or the file system refuse.

Run: python -m pytest tests/data/test_pictures.py
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.pac_score import _image as pac_image
from i0t import Standardizer
from i0t.data.captions import look_for
from i0t.data.items import ImageDataset, open_image
from i0t.encoders import EncodeOptions, load_encoder
from i0t.encoders.encode import encode_pictures
from i0t.errors import I0TError
from i0t.metrics import I0TScore

RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
SKIPPING = EncodeOptions(skip_unreadable=True, progress=False)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.resize((32, 32)), dtype=np.float32).transpose(2, 0, 1) / 255)


def tiff(packed: bytes, bits: int, photometric: int) -> bytes:
    """A little-endian TIFF of greys in the shape of `RAMP`, of kinds that Pillow cannot write."""
    (height, width), start = RAMP.shape, 8 + 2 + 9 * 12 + 4
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric}
    tags |= {273: start, 277: 1, 278: height, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + packed


def twelve_bits(values: np.ndarray) -> bytes:
    """Two values in three bytes."""
    first, second = values.reshape(-1, 2).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()


def deep_pictures(folder) -> dict[str, object]:
    header = b"P5 64 8 65535\n"
    (folder / "grey.pgm").write_bytes(header + RAMP.astype(">u2").tobytes())
    (folder / "ten_bits.pgm").write_bytes(b"P5 64 8 1023\n" + (RAMP >> 6).astype(">u2").tobytes())
    for name in ("grey.png", "grey.tif"):
        Image.fromarray(RAMP).save(folder / name)
    (folder / "twelve_bits.tif").write_bytes(tiff(twelve_bits(RAMP >> 4), 12, 1))
    (folder / "white_is_0.tif").write_bytes(tiff((65535 - RAMP).astype("<u2").tobytes(), 16, 0))
    big = Image.frombytes("I;16B", (64, 8), RAMP.astype(">u2").tobytes())
    files = {name: folder / name for name in ("grey.pgm", "ten_bits.pgm", "grey.png", "grey.tif")}
    files |= {name: folder / name for name in ("twelve_bits.tif", "white_is_0.tif")}
    return {**files, "I;16": Image.fromarray(RAMP), "I;16B": big}


@pytest.mark.parametrize("read", [open_image, pac_image])
def test_16_bit_greys_are_scaled_by_their_range(tmp_path, read):
    for name, source in deep_pictures(tmp_path).items():
        found = np.asarray(read(source))[..., 0].astype(int)
        assert abs(found - (RAMP >> 8)).max() <= 1, name


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_pictures_of_32_bits_are_refused_or_skipped(tmp_path, mode, in_memory):
    picture = Image.fromarray(RAMP.astype({"I": np.int32, "F": np.float32}[mode]))
    picture.save(tmp_path / "deep.tif")
    source = picture if in_memory else tmp_path / "deep.tif"
    with pytest.raises(I0TError, match=f"unreadable image .mode {mode}, 32 bits.*8 or 16 bits"):
        open_image(source)
    assert encode_pictures(load_encoder("tiny"), [source, Image.new("RGB", (9, 9))], SKIPPING).kept == [1]


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, TypeError, MemoryError, IndexError])
def test_any_error_of_a_decoder_or_of_preprocessing_is_an_unreadable_picture(monkeypatch, tmp_path, error):
    def fails(*_, **__):
        raise error("no luck\nat all")

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    assert ImageDataset([path], fails)[0].startswith(f"{path}: unreadable image (no luck). Replace it")
    monkeypatch.setattr(Image, "open", fails)
    assert ImageDataset([path], pixels)[0].startswith(f"{path}: unreadable image (no luck). Replace it")
    with pytest.raises(I0TError, match="a.png: missing or unreadable image .no luck"):
        pac_image(str(path))


@pytest.mark.parametrize("size", [(1, 60000), (60000, 1), (2, 402)])
def test_a_line_is_refused_before_it_is_resized(tmp_path, size):
    path = tmp_path / "line.png"
    Image.new("RGB", size).save(path)
    assert f"{size[0]} x {size[1]} px: longer than 200 times" in ImageDataset([path], lambda image: 1 / 0)[0]


def test_a_model_name_of_300_characters_is_no_model():
    with pytest.raises(I0TError, match="a: no such model"):
        load_encoder("a" * 300)


def test_an_image_name_of_300_characters_is_unreadable(tmp_path):
    long, good = tmp_path / ("a" * 300), tmp_path / "good.png"
    Image.new("RGB", (9, 9)).save(good)
    assert "unreadable image ([Errno 36]" in ImageDataset([long], pixels)[0]
    assert look_for([long, good], tmp_path) == ([False, True], [long])
    assert encode_pictures(load_encoder("tiny"), [long, tmp_path / "a\0b", good], SKIPPING).kept == [2]


# --- EXIF orientation ---------------------------------------------------------------------------


def turned(image: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The image as a camera stores it, and the EXIF that makes it upright again."""
    ways = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # inverse turns, as numbers of Image.Transpose
    exif = Image.Exif()
    exif[274] = orientation
    return image.transpose(Image.Transpose(ways[orientation])), exif


def test_encoder_and_score_turn_photographs_if_asked(tmp_path):
    tiny, upright = load_encoder("tiny"), Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 64, 3), "u1"))
    stored, exif = turned(upright, 6)
    stored.save(tmp_path / "a.png", exif=exif)
    right, lying = tiny.encode_images([upright]), tiny.encode_images([tmp_path / "a.png"])
    assert tiny.encode_images([tmp_path / "a.png"], upright=True).equal(right) and not lying.equal(right)
    means = Standardizer().fit(np.eye(2, tiny.embed_dim), np.eye(3, tiny.embed_dim)[1:])
    scores = []
    for image, asked in ((upright, False), (tmp_path / "a.png", True), (tmp_path / "a.png", False)):
        metric = I0TScore(means, tiny, upright=asked)
        metric.update([image], ["a dog"])
        scores.append(float(metric.compute()))
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_photographs_are_turned_if_asked_and_else_as_stored(tmp_path, suffix):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)).resize((64, 32))
    for orientation in range(2, 9):
        stored, exif = turned(upright, orientation)
        path = tmp_path / f"{orientation}.{suffix}"
        stored.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True}))
        found = np.asarray(open_image(path, upright=True)).astype(int)
        assert np.abs(found - np.asarray(upright)).mean() < 3, orientation
        if suffix != "tif":  # Pillow itself turns TIFF
            assert np.array_equal(open_image(path), Image.open(path).convert("RGB")), orientation
            assert open_image(path).size == stored.size
    picture = Image.open(tmp_path / "6.png") if suffix == "png" else None
    if picture is not None:
        assert np.array_equal(open_image(picture, upright=True), upright)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"MM\0*\0\0\0\x08\0\x05", b"II*\0\xff\xff\xff\xff", b"x" * 40])
def test_damaged_exif_leaves_the_pixels(tmp_path, exif):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg", upright=True).size == (8, 6)


def test_the_cache_keeps_turned_and_stored_images_apart(tmp_path):
    stored, exif = turned(Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)), 6)
    stored.save(tmp_path / "a.png", exif=exif)
    encoder, found = load_encoder("tiny"), {}
    for upright in (False, True, False, True):
        how = EncodeOptions(progress=False, upright=upright)
        images = encode_pictures(encoder, [tmp_path / "a.png", Image.open(tmp_path / "a.png")], how)
        assert images.from_cache == (upright in found)
        assert np.allclose(images.features[0], images.features[1], atol=1e-6)
        found.setdefault(upright, images.features)
        assert np.array_equal(images.features, found[upright])
    assert np.abs(found[True] - found[False]).max() > 1e-4
