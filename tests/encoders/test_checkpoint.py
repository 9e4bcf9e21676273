"""Checkpoints: nothing lost, nothing guessed, nothing unpickled.

Run: python -m pytest tests/encoders/test_checkpoint.py
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from i0t import Embeddings, Encoder, I0TError, load_encoder
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from i0t.encoders.encode import encode_texts
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import build_encoder, set_context_length
from i0t.versions import versions

TEXTS = ["a red star", "", "two small blue circles", "star " * 100]
TRAINING = {"recipe": {"name": "lccom", "seed": 7, "steps": None}, "step": 3, "validation": {"i2t_r1": 12.5}}


def small_encoder(seed: int, heads: str | None = None) -> Encoder:
    """Random weights, heads that have seen a few batches."""
    vision = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 16, "heads": 2}
    torch.manual_seed(seed)
    model = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    encoder = build_encoder({"small": True, "model": model}, heads)
    if heads:
        encoder.heads.train()
        with torch.no_grad():
            for modality in ("image", "text"):
                getattr(encoder.heads, modality).weight.uniform_(0.5, 2)
                encoder.heads(torch.randn(9, 16), modality)
        encoder.eval()
    return encoder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with BatchNorm heads."""
    return save_checkpoint(tmp_path / "stage2.safetensors", small_encoder(0, "batch_norm"), TRAINING)


def rewrite(path: Path, change: Callable[[dict, dict], None]) -> None:
    """Change tensors and header of a checkpoint in place."""
    with safe_open(path, framework="pt") as file:
        header = {key: value for key, value in file.metadata().items() if key != "checksum"}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    change(tensors, header)
    save_file(tensors, path, metadata=header)


@pytest.mark.parametrize("heads", [None, "batch_norm", "layer_norm"])
def test_roundtrip_gives_the_same_bits(tmp_path, heads):
    encoder = small_encoder(1, heads)
    path = save_checkpoint(tmp_path / "new" / "stage.safetensors", encoder, TRAINING)
    assert [file.name for file in path.parent.iterdir()] == ["stage.safetensors"]
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["versions"]) == versions()
    torch.manual_seed(2)
    for loaded in (load_checkpoint(path), load_encoder(str(path))):
        assert loaded.name == "stage.safetensors"
        assert loaded.training_summary == TRAINING
        assert (loaded.heads.kind if loaded.heads else None) == heads
        assert loaded.is_small and loaded.context_length == 77
        assert loaded.architecture == encoder.architecture
        assert loaded.fingerprint == encoder.fingerprint
        assert set(loaded.state_dict()) == set(encoder.state_dict())
        for key, value in encoder.state_dict().items():
            other = loaded.state_dict()[key]
            assert other.dtype == value.dtype and other.equal(value), key
        pictures = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))]
        assert loaded.encode_texts(TEXTS).equal(encoder.encode_texts(TEXTS))
        assert loaded.encode_images(pictures).equal(encoder.encode_images(pictures))


@pytest.mark.parametrize("load", [load_checkpoint, load_encoder])
def test_loaded_heads_use_running_statistics(checkpoint, load):
    """Eval mode; in train mode a batch of one vector cannot be normalised."""
    loaded = load(checkpoint)
    assert not any(module.training for module in loaded.modules())


def test_checkpoint_of_a_stretched_model(tmp_path):
    encoder = small_encoder(3)
    set_context_length(encoder, 248)
    loaded = load_checkpoint(save_checkpoint(tmp_path / "long.safetensors", encoder, {}))
    assert loaded.context_length == 248
    found = encode_texts(loaded, TEXTS, EncodeOptions(cache=False))
    assert torch.from_numpy(found.features).equal(encoder.encode_texts(TEXTS))
    assert found.truncated == 0


def test_preprocessing_is_part_of_the_checkpoint(tmp_path):
    config = small_encoder(4).architecture["model"]
    other = build_encoder(
        {"model": config, "preprocess": {"mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "squash"}}
    )
    loaded = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", other, {}))
    picture = Image.fromarray(np.full((32, 64, 3), 51, np.uint8))
    assert float(loaded.preprocess(picture).max()) == pytest.approx(0.2)
    assert loaded.preprocess(picture).equal(other.preprocess(picture))


def test_name_of_the_file_means_nothing(checkpoint, tmp_path):
    renamed = checkpoint.rename(tmp_path / "longclip-RN50.pt")
    assert load_encoder(renamed).heads.kind == "batch_norm"
    assert load_encoder(renamed.rename(tmp_path / "without_suffix")).name == "without_suffix"


def test_failed_save_leaves_the_old_checkpoint(checkpoint, tmp_path):
    before = checkpoint.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(checkpoint, small_encoder(5), {"recipe": object()})
    assert checkpoint.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.name]


def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(I0TError, match="locked: the output folder cannot be written"):
        save_checkpoint(tmp_path / "locked" / "c.safetensors", small_encoder(6), {})


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-4, 0.5, 0.999])
def test_truncated_checkpoint_is_refused(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(I0TError, match=r"stage2\.safetensors: not an i0t checkpoint, or truncated"):
        load_encoder(checkpoint)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_code_in_a_pickle_is_not_run(tmp_path, suffix):
    sprung = tmp_path / "sprung"
    path = tmp_path / f"trap{suffix}"
    for write in (
        lambda: path.write_bytes(pickle.dumps({"state_dict": Trap(sprung)})),
        lambda: torch.save({"state_dict": Trap(sprung)}, path),
    ):
        write()
        with pytest.raises(I0TError, match=rf"trap\{suffix}: a pickle or torch\.save file.*not opened here"):
            load_encoder(path)
        assert not sprung.exists()
    torch.load(path.rename(tmp_path / "trap.bin"), weights_only=False)
    assert sprung.exists(), "the trap works where pickles are opened"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_binary_protocol_are_called_so(tmp_path, protocol):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"weights": 1}, protocol=protocol))
    with pytest.raises(I0TError, match="a pickle or torch.save file"):
        load_encoder(tmp_path / "old.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_save_files_are_called_so(tmp_path, zipped):
    torch.save({"weights": torch.ones(2)}, tmp_path / "clip.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(I0TError, match=r"clip\.pth: a pickle or torch\.save file.*scripts/train\.sh"):
        load_encoder(tmp_path / "clip.pth")


def test_other_safetensors_are_refused(tmp_path):
    save_file({"weights": torch.ones(2)}, tmp_path / "bare.safetensors")
    save_file({"weights": torch.ones(2)}, tmp_path / "hub.safetensors", metadata={"format": "pt"})
    eye = np.eye(2)
    Embeddings(eye, eye, np.arange(2), ["a", "b"], ["a", "b"]).save(tmp_path / "features.safetensors")
    expected = {"bare": r" \(format None", "hub": r" \(format 'pt'", "features": ", but an Embeddings file"}
    for name, found in expected.items():
        with pytest.raises(I0TError, match=rf"{name}\.safetensors: .*not an i0t checkpoint{found}"):
            load_encoder(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["gone.safetensors", "."])
def test_missing_checkpoint_is_refused(tmp_path, name):
    with pytest.raises(I0TError, match="no such checkpoint"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, _: tensors.pop("model.ln_final.weight"), "ln_final.weight"),
        (lambda tensors, _: tensors.pop("heads.image.running_var"), "heads.image.running_var"),
        (lambda tensors, _: tensors.update({"model.left.over": torch.ones(1)}), "model.left.over"),
        (lambda tensors, _: tensors.update({"model.ln_final.weight": torch.ones(17)}), "ln_final.weight"),
        (lambda _, header: header.update(heads="null"), "heads.image"),
        (lambda _, header: header.update(heads='"layer_norm"'), "running_mean"),
    ],
)
def test_weights_that_do_not_fit_their_description_are_refused(checkpoint, change, message):
    """It is never loaded in part."""
    rewrite(checkpoint, change)
    with pytest.raises(I0TError, match=rf"(?s)stage2\.safetensors: weights do not fit.*{message}"):
        load_encoder(checkpoint)


@pytest.mark.parametrize("key", ["architecture", "heads", "training"])
def test_checkpoint_without_its_description_is_refused(checkpoint, key):
    rewrite(checkpoint, lambda _, header: header.pop(key))
    with pytest.raises(I0TError, match=r"stage2\.safetensors"):
        load_encoder(checkpoint)


def test_header_can_be_read_without_us(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        header = file.metadata()
    assert header["format"] == FORMAT
    assert json.loads(header["training"]) == TRAINING
    assert json.loads(header["heads"]) == "batch_norm"
    assert NormHeads(json.loads(header["heads"]), json.loads(header["architecture"])["model"]["embed_dim"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, _: tensors["model.ln_final.bias"].fill_(torch.nan), "weights model.ln_final.bias hold NaN"),
        (lambda _, header: header.update(training="[]"), "training: expected an object"),
        (lambda _, header: header.update(training='{"recipe": 3}'), '"recipe": is 3, not an object'),
        (lambda _, header: header.update(heads="{}"), "heads: expected"),
        (lambda _, header: header.update(architecture="[1]"), "architecture: expected"),
        (lambda _, header: header.update(architecture="[" * 50_000), "nested more than 64 levels"),
        (lambda _, header: larger(header, "layers"), "text_cfg.layers of its architecture is 1000000000"),
        (lambda _, header: larger(header, "width"), "text_cfg.width of its architecture is 1000000000"),
        (lambda _, header: header.update(checksum="00000000"), "damaged"),
    ],
)
def test_damaged_descriptions_and_weights_are_named(checkpoint, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(I0TError, match=rf"stage2\.safetensors: .*{message}"):
        load_encoder(checkpoint)


def larger(header: dict, key: str) -> None:
    """Give the text tower a size that would fill the memory."""
    architecture = json.loads(header["architecture"])
    architecture["model"]["text_cfg"][key] = 10**9
    header["architecture"] = json.dumps(architecture)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.999])
def test_flipped_byte_is_noticed(checkpoint, place):
    content = bytearray(checkpoint.read_bytes())
    content[int(place * len(content))] ^= 4
    checkpoint.write_bytes(content)
    with pytest.raises(I0TError, match=r"stage2\.safetensors: "):
        load_encoder(checkpoint)
