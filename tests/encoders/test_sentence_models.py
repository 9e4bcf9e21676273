"""Models of sentence-transformers: embeddings are those of the package's own `encode`; the recipe of docs/search.md.

Run: python -m pytest tests/encoders/test_sentence_models.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import transformers
from library_models import CONTEXT, TEXTS, bert_tokenizer, make
from small_clip import largest

from i0t import I0TError, load_encoder
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_texts

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
def test_sentence_embeddings_are_those_of_the_packages_encode(name, clip, pictures):
    encoder = load_encoder(name.format(clip))
    model = st.SentenceTransformer(str(clip), device="cpu")
    images, texts = (model.encode(items, convert_to_tensor=True).clone() for items in (pictures, TEXTS))
    assert encoder.source["library"] == "sentence-transformers" and encoder.embed_dim == images.shape[1]
    for batch_size in (1, 64):
        assert largest(encoder.encode_images(pictures, batch_size=batch_size) - images) <= 1e-6
        assert largest(encoder.encode_texts(TEXTS, batch_size=batch_size) - texts) <= 1e-6
    longer = sum(len(model.tokenizer(text)["input_ids"]) > CONTEXT for text in TEXTS)
    assert encode_texts(encoder, TEXTS, PLAIN).truncated == longer == 2
    assert encoder.encode_images([pictures[0].convert("L")]).shape == (1, encoder.embed_dim)
    assert float(encoder.logit_scale.detach()) > 1


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
