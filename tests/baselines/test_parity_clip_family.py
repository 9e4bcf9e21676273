"""The CLIP family against its authors' own code: tokens, pixels and embeddings, and that mistakes would show.

Run: python -m pytest tests/test_parity_clip_family.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from parity_fixture import TOLERANCE, Fixture, largest_difference
from torch import nn

from baselines import clip_family, clip_layouts
from baselines.state_dicts import read_state_dict
from i0t.encoders import EncodeOptions
from i0t.encoders.checkpoint import load_checkpoint, save_checkpoint
from i0t.encoders.encode import encode_texts
from i0t.encoders.encoder import Encoder
from i0t.encoders.openclip import build_encoder, load_pretrained
from i0t.errors import I0TError

LAYOUT = {
    "clip": "openai",
    "pacscore": "openai",
    "cyclip": "openai",
    "cloob": "cloob",
    "longclip": "longclip",
    "i0t": "longclip",
}
RESNETS = ("cyclip", "cloob")


@pytest.fixture(scope="session", params=LAYOUT)
def rival(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Fixture, Path]:
    """A rival's name, what its code returned, and its checkpoint."""
    name, fixture = request.param, Fixture.read(request.param)
    return name, fixture, fixture.save(tmp_path_factory.mktemp(name) / "checkpoint.pt")


def load(name: str, path: Path, **options: bool) -> Encoder:
    return clip_family.load(name, path, LAYOUT[name], **options)


def wrong_by(encoder: Encoder, fixture: Fixture, suffix: str = "") -> float:
    """Largest difference of the embeddings of the fixture's images and tokens."""
    with torch.no_grad():
        images, texts = encoder(fixture.tensor("pixels"), fixture.tensor("tokens"))
    return max(
        largest_difference(images, fixture.arrays[f"image_embeddings{suffix}"]),
        largest_difference(texts, fixture.arrays[f"text_embeddings{suffix}"]),
    )


def test_embeddings_equal_the_original(rival):
    name, fixture, path = rival
    encoder = load(name, path)
    assert wrong_by(encoder, fixture) < TOLERANCE
    # From images and captions, through our own preprocessing, tokenizer and batching.
    text_key = "text_embeddings_eot_kept" if name in RESNETS else "text_embeddings"
    images = encoder.encode_images(fixture.pictures, batch_size=3)
    found = encode_texts(encoder, fixture.captions, EncodeOptions(batch_size=2, cache=False))
    texts = torch.from_numpy(found.features)
    assert largest_difference(images, fixture.arrays["image_embeddings"]) < TOLERANCE
    assert largest_difference(texts, fixture.arrays[text_key]) < TOLERANCE
    if "logit_scale" in fixture.arrays:
        assert encoder.logit_scale.log().item() == pytest.approx(float(fixture.arrays["logit_scale"]))
    assert found.truncated == (1 if name in ("longclip", "i0t") else 2)


def test_pixels_and_tokens_equal_the_original(rival):
    name, fixture, path = rival
    encoder = load(name, path)
    pixels = torch.stack([encoder.preprocess(picture.convert("RGB")) for picture in fixture.pictures])
    assert largest_difference(pixels, fixture.arrays["pixels"]) < 1e-6
    tokens = encoder.tokenize(fixture.captions)
    assert tokens.shape[1] == encoder.context_length
    if name not in RESNETS:
        assert tokens.equal(fixture.tensor("tokens").long())
        return
    # CLOOB's and CyCLIP's tokenizers cut the end token off over-long captions; open_clip's keeps it, on purpose.
    assert tokens.equal(fixture.tensor("tokens_eot_kept").long())
    differing = (tokens != fixture.tensor("tokens")).any(dim=1).nonzero().flatten().tolist()
    assert differing == [row for row in range(len(tokens)) if tokens[row, -1] != 0]


def test_every_key_is_used_and_every_parameter_filled(rival, tmp_path):
    name, fixture, _ = rival
    too_many = fixture.save(tmp_path / "too_many.pt", **{"visual.strange": torch.zeros(2), "odd": torch.zeros(1)})
    with pytest.raises(I0TError, match=r"too_many\.pt: .*left over: odd, visual\.strange"):
        load(name, too_many)
    key = "transformer.ln_final.bias" if name == "cloob" else "ln_final.bias"
    with pytest.raises(I0TError, match=r"too_few\.pt: .*missing: ln_final\.bias"):
        load(name, fixture.save(tmp_path / "too_few.pt", **{key: None}))
    short = {key: torch.zeros(3)}
    with pytest.raises(I0TError, match=r"of another shape: ln_final\.bias"):
        load(name, fixture.save(tmp_path / "short.pt", **short))


def test_mistakes_would_be_seen(rival, monkeypatch):
    name, fixture, path = rival
    encoder = load(name, path)
    for module in encoder.model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    assert wrong_by(encoder, fixture) > 10 * TOLERANCE
    exact_gelu = {"quick_gelu": False}
    build = clip_family.build_encoder
    with monkeypatch.context() as patch:
        patch.setattr(clip_family, "build_encoder", lambda a, **k: build({"model": a["model"] | exact_gelu}, **k))
        assert wrong_by(load(name, path), fixture) > 10 * TOLERANCE
        patch.undo()
        patch.setattr(clip_family, "HEAD_WIDTH", 32)
        assert wrong_by(load(name, path), fixture) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["longclip", "i0t"])
def test_positions_are_merged_at_row_20(name, tmp_path, monkeypatch):
    fixture = Fixture.read(name)
    path = fixture.save(tmp_path / "checkpoint.pt")
    for kept in (0, 19, 21, 248):
        monkeypatch.setattr(clip_layouts, "KEPT_ROWS", kept)
        assert wrong_by(load(name, path), fixture) > 10 * TOLERANCE, kept
    reshaped = fixture.save(tmp_path / "reshaped.pt", positional_embedding_res=torch.zeros(77, 128))
    with pytest.raises(I0TError, match="positional_embedding_res is"):
        load(name, reshaped)
    with pytest.raises(I0TError, match="missing: positional_embedding_res"):
        clip_family.load(name, Fixture.read("pacscore").save(tmp_path / "plain.pt"), "longclip")


@pytest.mark.parametrize("name", ["longclip", "i0t"])
def test_rounding_to_fp16_is_the_authors_own(name, tmp_path):
    fixture = Fixture.read(name)
    path = fixture.save(tmp_path / "checkpoint.pt")
    exact, rounded = load(name, path), load(name, path, round_fp16=True)
    assert wrong_by(rounded, fixture, "_fp16_rounded") < TOLERANCE
    assert wrong_by(exact, fixture, "_fp16_rounded") > 10 * TOLERANCE
    assert exact.fingerprint != rounded.fingerprint


def test_i0t_heads_are_found_by_their_keys(tmp_path):
    fixture = Fixture.read("i0t")
    path = fixture.save(tmp_path / "i0t.pt")
    encoder = load("i0t", path)
    assert encoder.heads.kind == "batch_norm"
    encoder.heads.image, encoder.heads.text = encoder.heads.text, encoder.heads.image
    assert wrong_by(encoder, fixture) > 10 * TOLERANCE
    encoder.heads = None
    assert wrong_by(encoder, fixture) > 10 * TOLERANCE
    encoder = load("i0t", path)
    encoder.heads.image.eps = encoder.heads.text.eps = 1e-6
    assert wrong_by(encoder, fixture) > TOLERANCE
    one_missing = fixture.save(tmp_path / "half.pt", **{"bn_final_text.running_var": None})
    with pytest.raises(I0TError, match=r"missing: text\.running_var"):
        load("i0t", one_missing)
    assert load("longclip", Fixture.read("longclip").save(tmp_path / "longclip.pt")).heads is None


def test_a_bare_state_dict_loads_like_the_published_file(rival, tmp_path):
    name, _, path = rival
    bare = tmp_path / "bare.pt"
    torch.save(read_state_dict(path, entry="state_dict"), bare)
    assert load(name, bare).fingerprint == load(name, path).fingerprint


def test_our_own_checkpoint_keeps_a_rival_whole(rival, tmp_path):
    name, _, path = rival
    encoder = load(name, path)
    again = load_checkpoint(save_checkpoint(tmp_path / "ours.safetensors", encoder, {}))
    assert again.fingerprint == encoder.fingerprint


def test_stretched_positions_are_recorded(rival):
    """Further training uses this to keep the first positions."""
    name, _, path = rival
    assert load(name, path).architecture.get("stretched_from") == (77 if LAYOUT[name] == "longclip" else None)


def test_plain_clip_cannot_pass_for_pac_s(tmp_path):
    clip = load("clip", Fixture.read("clip").save(tmp_path / "clip.pt"))
    pacscore = load("pacscore", Fixture.read("pacscore").save(tmp_path / "pacscore.pth"))
    assert clip.fingerprint != pacscore.fingerprint
    # The same weights have one fingerprint, in whichever file and dtype they come.
    torch.save({"state_dict": clip.model.state_dict()}, tmp_path / "disguised.pth")
    assert load("pacscore", tmp_path / "disguised.pth").fingerprint == clip.fingerprint


@pytest.mark.parametrize("architecture", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_full_size_is_described_as_open_clip_does(architecture, monkeypatch):
    """Otherwise the fingerprint of OpenAI's weights would depend on the loader."""
    original = open_clip.create_model_and_transforms

    def untrained(name: str, pretrained: str) -> tuple:
        return original(name, device="meta")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", untrained)
    theirs = load_pretrained(architecture, "openai")
    ours = clip_family.clip_config(theirs.model.state_dict())
    assert ours == open_clip.get_model_config(architecture)
    with torch.device("meta"):
        again = build_encoder({"model": ours, "preprocess": clip_family.PREPROCESS})
    assert json.dumps(again.architecture, sort_keys=True) == json.dumps(theirs.architecture, sort_keys=True)


def test_recorded_sizes_must_agree(tmp_path):
    path = Fixture.read("clip").save(tmp_path / "clip.pt", context_length=torch.tensor(80))
    with pytest.raises(I0TError, match="context_length is recorded as 80, but the shapes say 77"):
        load("clip", path)


class _Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_with_code_is_not_opened(tmp_path):
    state = Fixture.read("pacscore").state_dict()
    torch.save({"state_dict": state, "args": _Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(I0TError, match=r"trap\.pth: holds more than tensors.*not opened.*can run code"):
        load("pacscore", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_damaged_files_are_refused(rival, tmp_path):
    name, _, path = rival
    content = path.read_bytes()
    for index, damaged in enumerate((b"", b"\x00" * 100, content[: len(content) // 2])):
        broken = tmp_path / f"broken{index}.pt"
        broken.write_bytes(damaged)
        with pytest.raises(I0TError, match=rf"broken{index}\.pt: "):
            load(name, broken)
    for strange in ({"state_dict": {"step": 3}}, [1, 2], {"state_dict": {}}):
        torch.save(strange, tmp_path / "strange.pt")
        with pytest.raises(I0TError, match=r"strange\.pt: "):
            load(name, tmp_path / "strange.pt")
    with pytest.raises(I0TError, match="no such file"):
        load(name, tmp_path / "nothing.pt")
