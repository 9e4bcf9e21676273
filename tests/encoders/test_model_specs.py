"""Specs: where rivals' files are looked for, what is said when they are not there, changed arguments.

Run: python -m pytest tests/test_model_specs.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from parity_fixture import Fixture, write_vocabulary

from i0t import load_encoder
from i0t.encoders.load import known_models
from i0t.errors import I0TError
from i0t.paths import REPO, Roots

# spec -> fixture
CLIP_FAMILY = {
    "longclip": "longclip",
    "i0t_public": "i0t",
    "pacscore": "pacscore",
    "cloob": "cloob",
    "cyclip": "cyclip",
    "clip_file": "clip",
}


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `configs` with empty path files."""
    folder = tmp_path / "configs"
    shutil.copytree(REPO / "configs" / "models", folder / "models")
    monkeypatch.setenv("I0T_CONFIGS", str(folder))
    return folder


def file_of(spec: str, key: str = "file") -> dict:
    return yaml.safe_load((REPO / "configs" / "models" / f"{spec}.yaml").read_text())[key]


BLIPS = {"blip": "blip", "blip2coco": "blip2", "blip2": "blip2_pretrained"}


@pytest.mark.parametrize("spec", BLIPS)
def test_parity_blip_files_load_from_their_places_in_data_dir(spec, configs, tmp_path, monkeypatch):
    fixture, file = Fixture.read(BLIPS[spec]), file_of(spec)["path"]
    fixture.save(tmp_path / file)
    name = spec
    if spec == "blip2":
        with pytest.raises(I0TError, match=r"no file .*eva_vit_g\.pth.*https://.*--model blip2:vision_file=PATH"):
            load_encoder(spec, roots=Roots(tmp_path, None))
        fixture.save(tmp_path / file_of(spec, "vision_file")["path"], "eva")
        name = "blip2:vision_layers=3"

    def no_network(*arguments: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    with pytest.raises(I0TError, match="no network"):  # the vocabulary is not there yet
        load_encoder(name, roots=Roots(tmp_path, None))
    write_vocabulary(tmp_path / file_of(spec, "vocabulary")["path"])
    encoder = load_encoder(name, roots=Roots(tmp_path, None))
    with pytest.raises(I0TError, match="no file /nowhere/vocab.txt"):  # named by hand, so not sought elsewhere
        load_encoder(f"{name}{',' if ':' in name else ':'}vocabulary=/nowhere/vocab.txt", roots=Roots(tmp_path, None))
    assert encoder.source["spec"] == spec
    assert encoder.source["file"] == str(tmp_path / file)
    assert encoder.encode_images(fixture.pictures).shape == fixture.arrays["image_embeddings"].shape


@pytest.mark.parametrize("spec", CLIP_FAMILY)
def test_parity_files_load_from_their_place_in_data_dir(spec, configs, tmp_path):
    data_dir = tmp_path / "data"
    path = Fixture.read(CLIP_FAMILY[spec]).save(data_dir / file_of(spec)["path"])
    encoder = load_encoder(spec, roots=Roots(data_dir, None))
    (configs / "root.txt").write_text(f"{data_dir}\n")
    assert load_encoder(spec).fingerprint == encoder.fingerprint
    assert encoder.name == spec
    assert encoder.source["spec"] == spec
    assert encoder.source["file"] == str(path)
    named = load_encoder(f"{spec}:file={path}", roots=Roots(None, None, is_sample=True))
    assert named.fingerprint == encoder.fingerprint


def test_parity_rounding_is_chosen_and_recorded(configs, tmp_path):
    Fixture.read("longclip").save(tmp_path / "longclip-B-32.pt")
    roots = Roots(tmp_path, None)
    plain, rounded = load_encoder("longclip", roots=roots), load_encoder("longclip:round_fp16=true", roots=roots)
    assert (plain.source["round_fp16"], rounded.source["round_fp16"]) == (False, True)
    assert plain.fingerprint != rounded.fingerprint


@pytest.mark.parametrize("spec", [name for name in known_models("file")])
def test_parity_missing_file_says_which_whence_and_how_large(spec, configs, tmp_path):
    file = file_of(spec)
    for roots, place in (
        (None, f"<data_dir>/{file['path']}"),
        (Roots(tmp_path, None), str(tmp_path / file["path"])),
        (Roots(tmp_path, None, is_sample=True), "root.txt"),
    ):
        with pytest.raises(I0TError) as caught:
            load_encoder(spec, roots=roots)
        message = str(caught.value)
        for expected in (place, file["published"], file["size"], f"--model {spec}:file=PATH"):
            assert expected in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "no such model"),
        ("longclip:fil=x.pt", "unexpected keyword argument 'fil'"),
        ("longclip:round_fp16", "is not KEY=VALUE"),
        ("longclip:file=/nowhere/x.pt", "no file /nowhere/x.pt"),
        ("/nowhere/x.pt", "no such checkpoint"),
    ],
)
def test_names_that_mean_nothing(name, message, configs):
    with pytest.raises(I0TError, match=message):
        load_encoder(name)


@pytest.mark.parametrize(
    "content", ["- a", "loader: [", "loader: baselines.nope:load", "loader: i0t.encoders.openclip:nope", "x: 1"]
)
def test_broken_specs(content, configs):
    (configs / "models" / "broken.yaml").write_text(content)
    with pytest.raises(I0TError, match=r"broken\.yaml"):
        load_encoder("broken")


def test_a_foreign_file_without_a_spec_is_told_of_them(configs, tmp_path):
    path = Fixture.read("pacscore").save(tmp_path / "someone.pth")
    with pytest.raises(I0TError, match=rf"--model KIND:file={path}, one of .*longclip"):
        load_encoder(path)
    assert load_encoder(f"pacscore:file={path}").embed_dim == 48
