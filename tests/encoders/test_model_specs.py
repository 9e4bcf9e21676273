"""Models by name: every spec of configs/models loads or names the missing file; bad specs and names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
import yaml
from parity_fixture import Fixture, write_vocabulary
from transformers import PreTrainedModel

from i0t import load_encoder
from i0t.data.items import Items
from i0t.encoders import hub
from i0t.encoders.encode import encode
from i0t.encoders.load import known_models
from i0t.errors import I0TError
from i0t.paths import REPO, Roots

# Files that the tests can generate: spec -> argument -> fixture, and which part of it. Of other specs only the
# refusal is tested.
FILES = {
    "longclip": {"file": ("longclip", "tensors")},
    "i0t_public": {"file": ("i0t", "tensors")},
    "pacscore": {"file": ("pacscore", "tensors")},
    "cloob": {"file": ("cloob", "tensors")},
    "cyclip": {"file": ("cyclip", "tensors")},
    "clip_file": {"file": ("clip", "tensors")},
    "blip": {"file": ("blip", "tensors")},
    "blip2coco": {"file": ("blip2", "tensors")},
    "blip2": {"file": ("blip2_pretrained", "tensors"), "vision_file": ("blip2_pretrained", "eva")},
}
CHANGED = {"blip2": "blip2:vision_layers=3"}  # the generated image encoder has four blocks


@pytest.fixture(autouse=True)
def hub_that_answers(monkeypatch):
    """The tests say what libraries get from it."""
    monkeypatch.setattr(hub, "_why_silent", lambda *_: "")


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `configs` with empty path files."""
    folder = tmp_path / "configs"
    shutil.copytree(REPO / "configs" / "models", folder / "models")
    monkeypatch.setenv("I0T_CONFIGS", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights can be downloaded."""

    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    monkeypatch.setattr(open_clip, "create_model_and_transforms", no_network)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", no_network)


def refusal(name: str, roots: Roots | None) -> str:
    with pytest.raises(I0TError) as caught:
        load_encoder(name, roots=roots)
    return str(caught.value)


@pytest.mark.parametrize("spec", known_models())
def test_parity_contract_every_spec_loads_or_says_what_it_lacks(spec, configs, tmp_path, offline):
    content = yaml.safe_load((REPO / "configs" / "models" / f"{spec}.yaml").read_text())
    data_dir, name = tmp_path / "data", CHANGED.get(spec, spec)
    data_dir.mkdir()
    roots = Roots(data_dir, None)
    files = {key: value for key, value in content.items() if isinstance(value, dict) and "path" in value}
    for key, file in files.items():
        if "hub" not in file:
            places = {str(data_dir / file["path"]): roots}
            if key == "file":  # the first that is missed
                places |= {"root.txt": Roots(data_dir, None, is_sample=True), f"<data_dir>/{file['path']}": None}
            for place, roots_of_place in places.items():
                message = refusal(name, roots_of_place)
                assert place in message
            for expected in (file["published"], file["size"], f"--model {spec}:{key}=PATH"):
                assert expected in message
            if spec not in FILES:
                return
            fixture, part = FILES[spec][key]
            Fixture.read(fixture).save(data_dir / file["path"], part)
        else:
            assert "no network" in refusal(name, roots)
            write_vocabulary(data_dir / file["path"])
    if not spec.startswith("tiny") and spec not in FILES:  # a download
        message = refusal(name, roots)
        assert content.get("hub", content.get("architecture")) in message and "no network" in message
        return

    encoder = load_encoder(name, roots=roots)
    assert (encoder.name, encoder.source["spec"], len(encoder.fingerprint)) == (name, spec, 16)
    for key, file in files.items():
        assert encoder.source[key] == str(data_dir / file["path"])
    (configs / "root.txt").write_text(f"{data_dir}\n")
    pictures = Fixture.read("clip").pictures
    texts = ["a photo of a cat", "a dog"]
    found = encode(encoder, Items(pictures, list("abcd"), texts, [[0], [2]], metadata={"dataset": "mine"}))
    assert found.image_features.shape[:: 2 if found.image_features.ndim == 3 else 1] == (4, encoder.embed_dim)
    assert found.text_features.shape == (2, encoder.embed_dim)
    for features in (found.image_features, found.text_features):
        np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-5)
    if "file" in files:
        assert load_encoder(name).fingerprint == encoder.fingerprint  # by root.txt
        by_hand = {key: f"{key}={data_dir / file['path']}" for key, file in files.items()}
        sample = Roots(None, None, is_sample=True)
        named = name + (",", ":")[name == spec] + ",".join(by_hand.values())
        assert load_encoder(named, roots=sample).fingerprint == encoder.fingerprint
        for key in files:
            text = named.replace(by_hand[key], f"{key}=/nowhere/file.x")  # so it is not sought elsewhere
            assert "no file /nowhere/file.x" in refusal(text, sample)


def test_parity_rounding_is_chosen_and_recorded(configs, tmp_path):
    Fixture.read("longclip").save(tmp_path / "longclip-B-32.pt")
    roots = Roots(tmp_path, None)
    plain, rounded = load_encoder("longclip", roots=roots), load_encoder("longclip:round_fp16=true", roots=roots)
    assert (plain.source["round_fp16"], rounded.source["round_fp16"]) == (False, True)
    assert plain.fingerprint != rounded.fingerprint


def test_a_foreign_file_without_a_spec_is_reported_of_them(configs, tmp_path):
    path = Fixture.read("pacscore").save(tmp_path / "someone.pth")
    with pytest.raises(I0TError, match=rf"--model KIND:file={path}, one of .*longclip"):
        load_encoder(path)
    assert load_encoder(f"pacscore:file={path}").embed_dim == 48


# --- names and specs of the user -------------------------------------------------------------


def test_loaded_encoder_is_ready():
    encoder = load_encoder("tiny", "cpu")
    assert not encoder.training
    assert (encoder.name, encoder.embed_dim, encoder.context_length, encoder.is_small) == ("tiny", 128, 248, True)
    assert encoder.device == torch.device("cpu")
    assert float(encoder.logit_scale.detach()) == pytest.approx(1 / 0.07, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("longclip:fil=x.pt", "unexpected keyword argument 'fil'"),
        ("longclip:round_fp16", "is not KEY=VALUE"),
        ("longclip:file=/nowhere/x.pt", "no file /nowhere/x.pt"),
        ("/nowhere/x.pt", "no such checkpoint"),
        ("tinny", r"tinny: no such model\. .*there are: .*tiny"),
        ("ViT-B-32", r"ViT-B-32: no such model\..*ARCH/TAG"),
        ("", "no such model"),
        ("ViT-B-32/", "ViT-B-32: no weights .*openai"),
        ("ViT-B-32/no-such-tag", "ViT-B-32: no weights 'no-such-tag'.*openai.*random"),
        ("No-Such-Arch/openai", "No-Such-Arch: not an open_clip architecture"),
        ("gone.safetensors", r"gone\.safetensors: no such checkpoint"),
        ("checkpoints/gone.pt", r"gone\.pt: no such checkpoint"),
    ],
)
def test_unknown_models_are_refused_with_what_is_known(name, message, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(I0TError, match=message):
        load_encoder(name)


LOADER = "loader: i0t.encoders.openclip:build_encoder\n"
VISION = "{image_size: 32, patch_size: 16, layers: 1, width: 16, head_width: 8}"
TEXT = "{context_length: 77, layers: 1, width: 16, heads: 2}"


def architecture(dim: str = "24", vision: str = VISION, text: str = TEXT, more: str = "") -> str:
    """A spec of a small CLIP, with the fault that a test needs."""
    model = f"{{embed_dim: {dim}, vision_cfg: {vision}, text_cfg: {text}}}"
    return f"{LOADER}architecture: {{model: {model}{more}}}\n"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "- tiny",
        "loader: [unclosed",
        "architecture: {}",
        "loader: ''",
        "loader: no.such.module:load",
        "loader: i0t.encoders.openclip:no_such_function",
        "loader: 3",
        LOADER,
        f"{LOADER}architecture: {{}}\nunknown: 1",
        f"{LOADER}architecture: {{}}",
        f"{LOADER}architecture: {{model: {{}}}}",
        f"{LOADER}architecture:",
        f"{LOADER}architecture: [model]",
        f"{LOADER}architecture: {{model: }}",
        architecture(dim="two"),
        architecture(dim="-2"),
        architecture(vision="{imagesize: 32}"),
        architecture(vision=VISION.replace("width: 16, head_width: 8", "width: 20, head_width: 6")),  # 20 / 3 a head
        architecture(vision=VISION.replace("head_width: 8", "head_width: 0")),
        architecture(text=""),
        architecture(more=", preprocess: {sizes: 32}"),
        architecture(more=", preprocess: {interpolation: none}"),
    ],
)
def test_bad_spec_is_refused_by_name(tmp_path, monkeypatch, spec):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(spec)
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))
    with pytest.raises(I0TError, match="mine"):
        load_encoder("mine")


@pytest.mark.parametrize("name", ["tiny:heads", "tiny:heads=[1", "tiny:no_such_value=1"])
def test_changed_value_that_cannot_be_read_is_shown(name):
    with pytest.raises(I0TError, match=r"--model tiny:"):
        load_encoder(name)


def test_spec_of_the_users_own_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(architecture())
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))
    encoder = load_encoder("mine")
    assert (encoder.name, encoder.embed_dim, encoder.is_small) == ("mine", 24, False)
    assert load_encoder("tiny").embed_dim == 128, "what the user's folder lacks comes with the package"
    with pytest.raises(I0TError, match=r"there are: .*, longclip, mine, .*\)"):
        load_encoder("yours")


@pytest.mark.parametrize("error", [RuntimeError("offline\nand more"), OSError("no route to host")])
def test_unavailable_weights_are_reported_with_the_remedy(monkeypatch, capsys, error):
    def offline(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(open_clip, "create_model_and_transforms", offline)
    with pytest.raises(I0TError) as caught:
        load_encoder("clip")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("ViT-B-32-quickgelu/openai", str(error).splitlines()[0], "cache", "--base tiny"):
        assert part in message
    assert capsys.readouterr().out == ""


def test_a_tokenizer_without_words_is_no_fault_of_the_configuration(monkeypatch):
    def wordless(*_: Any) -> None:
        raise I0TError("its tokenizer knows no words: the files of it are missing.")

    monkeypatch.setattr("i0t.encoders.openclip.tokenizer_of", wordless)
    with pytest.raises(I0TError, match=r"^tiny: its tokenizer knows no words"):
        load_encoder("tiny")
