"""Exported checkpoints load in open_clip and transformers alone, with the same embeddings.

Run: python -m pytest tests/encoders/test_export.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from library_models import make
from safetensors.numpy import load_file
from small_clip import TEXTS, largest
from torch.nn import functional as F

from i0t import Encoder, I0TError, load_encoder
from i0t.commands.export import main as export
from i0t.encoders.checkpoint import save_checkpoint
from i0t.encoders.export import export_encoder
from i0t.encoders.heads import NormHeads
from i0t.encoders.openclip import set_context_length


def exported(encoder: Encoder, folder: Path, library: str) -> str:
    path = save_checkpoint(folder / "a.safetensors", encoder, {})
    assert export([str(path), "--to", library, str(folder / library)]) == 0
    return str(folder / library)


@torch.no_grad()
@pytest.mark.parametrize("length", [77, 134])
def test_export_to_open_clip_loads_there(small, length, pictures, tmp_path):
    if length != 77:
        set_context_length(small, length)
    place = f"local-dir:{exported(small, tmp_path, 'open_clip')}"
    model, preprocess = open_clip.create_model_from_pretrained(place)
    tokens = open_clip.get_tokenizer(place)(TEXTS)
    assert tokens.shape[1] == length
    model.eval()
    images = model.encode_image(torch.stack([preprocess(picture) for picture in pictures]))
    assert largest(F.normalize(images, dim=-1) - small.encode_images(pictures)) <= 1e-6
    assert largest(F.normalize(model.encode_text(tokens), dim=-1) - small.encode_texts(TEXTS)) <= 1e-6


@torch.no_grad()
@pytest.mark.parametrize("quick", [True, False])
def test_export_to_transformers_loads_there(quick, pictures, tmp_path):
    from small_clip import TEXT, VISION, jittered

    from i0t.encoders.openclip import build_encoder

    torch.manual_seed(4)
    model = {"embed_dim": 16, "quick_gelu": quick, "vision_cfg": VISION, "text_cfg": TEXT}
    encoder = jittered(build_encoder({"model": model}))
    folder = exported(encoder, tmp_path, "transformers")
    loaded = transformers.AutoModel.from_pretrained(folder).eval()
    both = transformers.AutoProcessor.from_pretrained(folder, backend="pil")
    plain = [text for text in TEXTS if "<end_of_text>" not in text]  # the token has another name there
    inputs = both(text=plain, padding=True, truncation=True, return_tensors="pt")
    texts = F.normalize(loaded.get_text_features(**inputs).pooler_output, dim=-1)
    assert largest(texts - encoder.encode_texts(plain)) <= 1e-6
    square = [picture for picture in pictures if picture.width == picture.height]
    several = [*square, square[-1].convert("L"), square[-1].convert("P")]
    assert len(several) == 5
    pixels = both(images=several, return_tensors="pt").pixel_values
    images = F.normalize(loaded.get_image_features(pixels).pooler_output, dim=-1)
    assert largest(images - encoder.encode_images(several)) <= 1e-6
    torch.testing.assert_close(loaded.logit_scale, encoder.log_scale)


@torch.no_grad()
def test_exported_heads_are_an_affine_map_beside_the_model(small, pictures, tmp_path):
    plain = small.encode_images(pictures), small.encode_texts(TEXTS)
    small.heads = NormHeads("batch_norm", 16)
    small.heads.train()
    for modality, features in zip(("image", "text"), plain, strict=True):
        getattr(small.heads, modality).weight.uniform_(0.5, 2)
        small.heads(features, modality)
    small.eval()
    folder = exported(small, tmp_path, "open_clip")
    maps = load_file(f"{folder}/transform.safetensors")
    expected = small.encode_images(pictures), small.encode_texts(TEXTS)
    for modality, features, moved in zip(("image", "text"), plain, expected, strict=True):
        found = features.double().numpy() @ maps[f"{modality}_matrix"].T + maps[f"{modality}_bias"]
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        assert np.abs(found - moved.numpy()).max() <= 1e-5
        assert np.abs(features.numpy() - moved.numpy()).max() > 1e-3


def test_heads_on_a_model_of_transformers_are_exported_alone(pictures, tmp_path, capsys):
    encoder = load_encoder(make("clip", tmp_path))
    plain = encoder.encode_images(pictures)
    encoder.heads = NormHeads("batch_norm", encoder.embed_dim).train()
    encoder.heads(plain, "image"), encoder.heads(plain + 0.1, "text")
    path = save_checkpoint(tmp_path / "a.safetensors", encoder.eval(), {})
    assert export([str(path), "--to", "transformers", str(tmp_path / "out")]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["transform.safetensors"]
    maps = load_file(tmp_path / "out" / "transform.safetensors")
    found = plain.detach().double().numpy() @ maps["image_matrix"].T + maps["image_bias"]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - load_encoder(path).encode_images(pictures).detach().numpy()).max() <= 1e-5
    assert export([str(path), "--to", "open_clip", str(tmp_path / "no")]) == 2
    assert "open_clip cannot load it. Its own library does" in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused_with_the_remedy(small, tmp_path, capsys):
    small.heads = NormHeads("layer_norm", 16)
    path = save_checkpoint(tmp_path / "a.safetensors", small, {})
    assert export([str(path), "--to", "open_clip", str(tmp_path / "out")]) == 2
    assert "LayerNorm heads are no affine map" in capsys.readouterr().err and not (tmp_path / "out").exists()
    small.heads = None
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(I0TError, match="not empty. Name a new folder"):
        export_encoder(small, tmp_path / "full", "open_clip")
    small.architecture["model"]["text_cfg"]["no_causal_mask"] = True
    with pytest.raises(I0TError, match=r"no text_cfg\.no_causal_mask. Export it with --to open_clip"):
        export_encoder(small, tmp_path / "new", "transformers")
    small.architecture = {"family": "transformers", "model": {"embed_dim": 16}}
    with pytest.raises(I0TError, match="not a model of open_clip"):
        export_encoder(small, tmp_path / "new", "open_clip")
