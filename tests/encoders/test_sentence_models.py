"""Models of sentence-transformers: embeddings are those of the package's own `encode`; the recipe of docs/search.md.

Run: python -m pytest tests/encoders/test_sentence_models.py
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from library_models import CONTEXT, TEXTS, bert_tokenizer, make
from PIL import Image
from safetensors.torch import load_file, save_file
from small_clip import largest

from i0t import I0TError, load_encoder
from i0t.commands.apply import main as apply
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_texts
from i0t.paths import REPO
from i0t.standardize import ZScore

st = pytest.importorskip("sentence_transformers")
PLAIN = EncodeOptions(cache=False, progress=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A CLIP saved by sentence-transformers, with a normalisation as its last module."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.base.modules.normalize import Normalize

    root = tmp_path_factory.mktemp("st")
    model = st.SentenceTransformer(modules=[Transformer(str(make("clip", root))), Normalize()], device="cpu")
    model.save(str(root / "saved"))
    return root / "saved"


@pytest.mark.parametrize("name", ["st:{0}", "{0}"])
def test_sentence_embeddings_are_those_of_the_packages_encode(name, clip, mixed_pictures):
    encoder = load_encoder(name.format(clip))
    model = st.SentenceTransformer(str(clip), device="cpu")
    images, texts = (model.encode(items, convert_to_tensor=True).clone() for items in (mixed_pictures, TEXTS))
    assert encoder.source["library"] == "sentence-transformers" and encoder.embed_dim == images.shape[1]
    for batch_size in (1, 3, 64):
        assert largest(encoder.encode_images(mixed_pictures, batch_size=batch_size) - images) <= 1e-6
        assert largest(encoder.encode_texts(TEXTS, batch_size=batch_size) - texts) <= 1e-6
    assert largest(encoder.encode_texts(TEXTS[::-1], batch_size=2).flip(0) - texts) <= 1e-6
    for precision in ("fp16", "bf16"):
        assert largest(encoder.encode_texts(TEXTS, precision=precision) - texts) <= 5e-3
        assert largest(encoder.encode_images(mixed_pictures, precision=precision) - images) <= 5e-3
    longer = sum(len(model.tokenizer(text)["input_ids"]) > CONTEXT for text in TEXTS)
    assert encode_texts(encoder, TEXTS, PLAIN).truncated == longer == 2
    assert float(encoder.logit_scale.detach()) > 1


def test_weights_that_are_not_there_are_not_made_up(clip, tmp_path):
    """The package fills them with random values; weights in half precision are no such case."""
    shutil.copytree(clip, tmp_path / "cut")
    tensors = load_file(clip / "model.safetensors")
    half = {key: tensor.half() for key, tensor in tensors.items()}
    save_file(half, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(tmp_path / "cut").embed_dim == 128
    del tensors["text_projection.weight"]
    save_file(tensors, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(I0TError, match=r"its weights lack text_projection\.weight"):
        load_encoder(tmp_path / "cut")


def test_prompts_and_shortened_vectors_are_the_models_own(clip, pictures, tmp_path):
    model = st.SentenceTransformer(
        str(clip), device="cpu", truncate_dim=20, prompts={"query": "a photo of "}, default_prompt_name="query"
    )
    model.save(str(tmp_path / "prompted"))
    encoder = load_encoder(tmp_path / "prompted")
    for items, encode in ((TEXTS[:2], encoder.encode_texts), (pictures, encoder.encode_images)):
        expected = torch.nn.functional.normalize(model.encode(items, convert_to_tensor=True).clone(), dim=-1)
        found = encode(items)
        assert found.shape[1] == encoder.embed_dim == expected.shape[1]
        assert largest(found - expected) <= 1e-6


def test_a_text_model_is_refused(tmp_path):
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = bert_tokenizer()
    transformers.BertModel(transformers.BertConfig(**tower, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "a")
    tokenizer.save_pretrained(tmp_path / "a")
    st.SentenceTransformer(str(tmp_path / "a"), device="cpu").save(str(tmp_path / "b"))
    with pytest.raises(I0TError, match="encodes text, not images"):
        load_encoder(tmp_path / "b")


def test_a_model_that_sees_the_padding_of_its_batch_is_refused(tmp_path):
    from sentence_transformers.base.modules import Transformer

    model = st.SentenceTransformer(modules=[Transformer(str(make("siglip", tmp_path)))], device="cpu")
    model.save(str(tmp_path / "saved"))
    with pytest.raises(I0TError, match="takes input_ids for one text.*Models that see padding"):
        load_encoder(tmp_path / "saved")


def test_without_the_package_the_error_says_how_to_get_it(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(I0TError, match="pip install sentence-transformers"):
        load_encoder(clip)


def test_recipe_of_the_search_page_with_the_package_itself(clip, pictures, tmp_path, monkeypatch):
    """The page's class moves pictures and texts of a real model as the fitted remover does."""
    monkeypatch.chdir(tmp_path)
    model = st.SentenceTransformer(str(clip), device="cpu")
    shades = [Image.new("RGB", (40, 40), (shade, 255 - shade, 90)) for shade in range(0, 250, 10)]
    words = [f"a photo of {number} cats" for number in range(25)]
    vectors = {"images.npy": model.encode([*pictures, *shades]), "texts.npy": model.encode(words)}
    for name, array in vectors.items():
        np.save(name, array)
    assert apply(["images.npy", "texts.npy", "--fit-on", "images.npy", "texts.npy", "--output", "corrected"]) == 0
    blocks = re.findall(r"^```python\n(.*?)^```$", (REPO / "docs" / "search.md").read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(next(block for block in blocks if "class GapFreeModel" in block), "search.md", "exec"), names)
    gap_free = names["GapFreeModel"](model, "corrected/transform.safetensors")
    remover = ZScore().fit(*vectors.values())
    for items, modality, move in (
        (pictures, "image", remover.transform_image),
        (TEXTS[:2], "text", remover.transform_text),
    ):
        np.testing.assert_allclose(gap_free.encode(items, modality), move(model.encode(items)), atol=1e-5)
