"""Dual encoders of transformers: embeddings are those of the library's own documented calls, for every kind.

Run: python -m pytest tests/encoders/test_transformers_models.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from library_models import CONTEXT, KINDS, TEXTS, make
from PIL import Image
from small_clip import largest
from torch.nn import functional as F

from i0t import Encoder, I0TError, load_encoder
from i0t.encoders import EncodeOptions, transformers_models
from i0t.encoders.encode import encode_texts
from i0t.encoders.transformers_text import HIDDEN

PLAIN = EncodeOptions(cache=False, progress=False)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a kind, made once."""
    root, made = tmp_path_factory.mktemp("saved"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(kind, root)
        return made[kind]

    return folder


def texts_of(kind: str) -> list[str]:
    """TEXTS; TIPSv2 has no token, and so no direction, for an empty text."""
    return [text for text in TEXTS if text or kind != "tipsv2"]


def documented(folder: Path, kind: str, images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(image features, features of `texts_of`), as the model's page in transformers' documentation computes them.

    Last, how many of the texts are longer than the context.
    """
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if kind.startswith("siglip") or kind.endswith("without_mask") else True
    # SigLIP 2's authors lower-case; this tokenizer only says so.
    texts = [text.lower() if kind == "siglip2" else text for text in texts_of(kind)]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = tokenizer(texts, padding=padding, truncation=True, max_length=CONTEXT, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    pixels = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
    with torch.no_grad():
        found = model.get_image_features(**pixels), model.get_text_features(**inputs)
    longer = sum(len(tokenizer(text)["input_ids"]) > CONTEXT for text in texts)
    image_features, text_features = (F.normalize(output.pooler_output, dim=-1) for output in found)
    return image_features, text_features, longer


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_documented_calls(kind, saved, mixed_pictures):
    encoder = load_encoder(f"hf:{saved(kind)}")
    images, texts, longer = documented(saved(kind), kind, mixed_pictures)
    given = texts_of(kind)
    assert images.shape[1] == encoder.embed_dim and encoder.context_length == CONTEXT
    assert largest(images[0] - images[1]) > 1e-3 and largest(texts[0] - texts[1]) > 1e-3
    for batch_size in (1, 3, 64):
        assert largest(encoder.encode_images(mixed_pictures, batch_size=batch_size) - images) <= 1e-6
        assert largest(encoder.encode_texts(given, batch_size=batch_size) - texts) <= 1e-6
    assert largest(encoder.encode_texts(given[::-1], batch_size=2).flip(0) - texts) <= 1e-6
    assert largest(encoder.encode_images(mixed_pictures[::-1], batch_size=2).flip(0) - images) <= 1e-6
    assert encode_texts(encoder, given, PLAIN).truncated == longer < 4
    for precision in ("fp16", "bf16"):
        options = {"precision": precision}
        assert largest(encoder.encode_texts(given, **options) - texts) <= 5e-3
        assert largest(encoder.encode_images(mixed_pictures, **options) - images) <= 5e-3
    model = transformers.AutoModel.from_pretrained(saved(kind), dtype=torch.float32)
    scale = 1 / model.temperature if hasattr(model, "temperature") else model.logit_scale.exp()
    torch.testing.assert_close(encoder.logit_scale.detach(), scale.detach().reshape(()))
    assert (encoder.logit_bias is not None) == kind.startswith("siglip")


def test_a_text_without_a_token_is_refused(saved):
    with pytest.raises(I0TError, match=r"text '': its features are (zero|NaN)"):
        load_encoder(saved("tipsv2")).encode_texts(["a cat", ""])


def test_siglip_has_the_probability_of_its_own_logits(saved, pictures):
    encoder = load_encoder(saved("siglip"))
    model = transformers.AutoModel.from_pretrained(saved("siglip"), dtype=torch.float32).eval()
    both = transformers.AutoProcessor.from_pretrained(saved("siglip"))
    inputs = both(text=TEXTS, images=pictures, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = torch.sigmoid(model(**inputs).logits_per_image).numpy()
    cosines = (encoder.encode_images(pictures) @ encoder.encode_texts(TEXTS).T).numpy()
    np.testing.assert_allclose(encoder.match_probability(cosines), expected, atol=1e-6)
    assert expected.std() > 1e-3
    assert load_encoder(saved("clip")).match_probability(cosines) is None


# --- mistakes that are easy to make --------------------------------------------------------------


def unpadded(encoder: Encoder) -> None:
    encoder.tokenize.rules = replace(encoder.tokenize.rules, full=False)


def canonicalised_no_more(encoder: Encoder) -> None:
    encoder.tokenize.tokenizer.canonicalize_text = lambda text, **_: text


def case_kept(encoder: Encoder) -> None:
    encoder.tokenize.rules = replace(encoder.tokenize.rules, lower=False)


def cropped(encoder: Encoder) -> None:
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    old = encoder.preprocess.processor
    mean = {"image_mean": old.image_mean, "image_std": old.image_std, "resample": old.resample}
    encoder.preprocess.processor = transformers.CLIPImageProcessor(**crop, **mean)


@pytest.mark.parametrize(
    ("kind", "mistake"),
    [("siglip", unpadded), ("siglip", canonicalised_no_more), ("siglip2", case_kept), ("siglip", cropped)],
)
def test_siglip_without_one_of_its_rules_is_noticed(kind, mistake, saved, mixed_pictures):
    encoder = load_encoder(saved(kind))
    images, texts, _ = documented(saved(kind), kind, mixed_pictures)
    rows = [0, 1, 3]  # with the over-long text, all would be padded to the context

    def error() -> float:
        of_texts = largest(encoder.encode_texts([TEXTS[row] for row in rows]) - texts[rows])
        return max(of_texts, largest(encoder.encode_images(mixed_pictures) - images))

    assert error() <= 1e-6
    mistake(encoder)
    assert error() > 1e-3


def test_siglip_without_its_bias_is_noticed(saved):
    encoder = load_encoder(saved("siglip"))
    before = encoder.match_probability(np.array([0.1]))
    with torch.no_grad():
        encoder.model.model.logit_bias.zero_()
    assert abs(encoder.match_probability(np.array([0.1])) - before) > 1e-3


def test_padding_is_marked_by_the_tokenizer_not_by_a_constant(saved):
    """CLIP's end token is its padding, and SigLIP's padding is seen."""
    assert load_encoder(saved("clip")).tokenize(["a cat on it", "do"])[1].tolist()[-3:] == [HIDDEN] * 3
    tokens = load_encoder(saved("siglip")).tokenize(["a cat"])
    assert tokens.shape == (1, CONTEXT) and tokens[0, -1] == 1


# --- refusals ------------------------------------------------------------------------------------


def changed_copy(source: Path, target: Path, **changes: Any) -> Path:
    """Copy a saved model with changed values of its configuration (None: left out)."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return target


def test_code_of_a_repository_runs_only_when_asked(saved, tmp_path):
    auto = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    folder = changed_copy(saved("clip"), tmp_path / "own", auto_map=auto, model_type="own")
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(I0TError, match=r"needs Python code of its own.*:trust_remote_code=true"):
        load_encoder(f"hf:{folder}")
    with pytest.raises(SystemExit, match="ran"):
        load_encoder(f"hf:{folder}:trust_remote_code=true")


def test_missing_weights_are_not_made_up(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = changed_copy(saved("clip"), tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(I0TError, match=r"its weights lack text_projection\.weight"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.Siglip2Config(), "pictures of any shape.*google/siglip2-base-patch16-224"),
        (transformers.BlipConfig(), "lacks BLIP's contrastive layers.*Salesforce/blip-itm-base-coco"),
    ],
)
def test_families_without_a_pair_of_vectors_are_refused(config, message, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(I0TError, match=message):
        load_encoder(tmp_path)


def test_a_text_model_is_no_dual_encoder(tmp_path):
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(**tower, vocab_size=160)).save_pretrained(tmp_path)
    with pytest.raises(
        I0TError, match="BertModel is no dual encoder of images and texts: it has no get_image_features"
    ):
        load_encoder(tmp_path)


def test_a_model_whose_texts_depend_on_their_batch_is_refused(saved, monkeypatch):
    """As AIMv2's do with the attention that transformers takes by itself."""
    monkeypatch.setattr(transformers_models, "EAGER", ())
    with pytest.raises(I0TError, match="a text's features depend on the other texts of its batch"):
        load_encoder(saved("aimv2"))


def test_a_folder_without_a_part_says_which(saved, tmp_path):
    folder = changed_copy(saved("clip"), tmp_path / "cut")
    (folder / "processor_config.json").unlink()
    with pytest.raises(I0TError, match="cannot load it .*image processor") as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
