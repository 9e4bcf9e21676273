"""Names of models: prefixes, the order of a bare name, what an error says; open_clip's folders and repositories.

Run: python -m pytest tests/encoders/test_model_names.py
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from library_models import TEXTS, make
from open_clip_models import documented, make_open_clip
from small_clip import largest

from i0t import I0TError, load_encoder
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_texts

PLAIN = EncodeOptions(cache=False, progress=False)


@pytest.fixture(scope="session")
def siglip(tmp_path_factory) -> Path:
    return make_open_clip("siglip", tmp_path_factory.mktemp("open_clip"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, without a network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def into_cache(cache: Path, name: str, *folders: Path) -> None:
    """Put the files of folders into the cache, as a repository of the hub."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for folder in folders:
        for path in folder.iterdir():
            (snapshot / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("name", ["local-dir:{0}", "{0}", "hf-hub:owner/name", "owner/name"])
def test_open_clip_folders_and_repositories_give_open_clips_embeddings(name, siglip, cache, pictures, tmp_path):
    into_cache(cache, "owner/name", siglip)
    into_cache(cache, "somewhere/on-the-hub", make("siglip", tmp_path))  # with its tokenizer
    encoder = load_encoder(name.format(siglip))
    images, texts = documented(f"local-dir:{siglip}", TEXTS, pictures)
    for batch_size in (1, 64):
        assert largest(encoder.encode_images(pictures, batch_size=batch_size) - images) <= 1e-6
        assert largest(encoder.encode_texts(TEXTS, batch_size=batch_size) - texts) <= 1e-6
    assert encode_texts(encoder, ["a cat", "", "cat " * 40], PLAIN).truncated == 1
    assert encoder.logit_bias is not None and encoder.name == name.format(siglip)


def test_weights_that_are_not_there_are_not_made_up(siglip, tmp_path):
    (tmp_path / "m").mkdir()
    for path in siglip.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "m" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(I0TError, match="open_clip cannot load it .*pretrained weights"):
        load_encoder(tmp_path / "m")


# --- which model a name means ----------------------------------------------------------------


def refusal(name: str) -> str:
    with pytest.raises(I0TError) as caught:
        load_encoder(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["hf:owner/name", "hf-hub:owner/name", "st:owner/name", "owner/name"])
def test_offline_the_error_says_which_cache_and_how_to_fill_it(name, cache):
    message = refusal(name)
    for part in ("owner/name", str(cache), "hf download owner/name", "HF_HUB_CACHE=FOLDER"):
        assert part in message
    if name == "owner/name":
        for part in ("a folder owner/name (there is none)", "owner: not an open_clip architecture", "Hugging Face hub"):
            assert part in message


def test_a_repository_or_folder_in_several_formats_is_not_guessed(siglip, cache, tmp_path):
    transformers_clip = make("clip", tmp_path)
    into_cache(cache, "owner/both", siglip, transformers_clip)
    into_cache(cache, "somewhere/on-the-hub", make("siglip", tmp_path))
    assert "Say which: hf-hub:owner/both, hf:owner/both" in refusal("owner/both")
    assert load_encoder("hf-hub:owner/both").source["library"] == "open_clip"
    assert load_encoder("hf:owner/both").source["library"] == "transformers"
    for path in siglip.iterdir():
        (transformers_clip / path.name).write_bytes(path.read_bytes())
    assert f"Say which: local-dir:{transformers_clip}, hf:{transformers_clip}" in refusal(str(transformers_clip))


def test_a_folder_named_like_a_tag_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("clip", tmp_path).rename(tmp_path / "random")
    (tmp_path / "ViT-B-32").mkdir()
    (tmp_path / "random").rename(tmp_path / "ViT-B-32" / "random")
    assert "Say which: hf:ViT-B-32/random, open_clip:ViT-B-32/random" in refusal("ViT-B-32/random")
    assert load_encoder("hf:ViT-B-32/random").embed_dim == 128


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    assert "holds none of open_clip_config.json, modules.json, config.json" in refusal(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "nothing behind hf:. Write hf:owner/name"),
        ("hf:/nowhere", "no such folder"),
        ("hf-hub:name", "not a repository of the hub. Write hf-hub:owner/name"),
        ("local-dir:/nowhere", "no such folder"),
        ("open_clip:ViT-B-32/no-such-tag", "ViT-B-32: no weights 'no-such-tag'"),
        ("open_clip:No-Such-Arch/openai", "No-Such-Arch: not an open_clip architecture"),
        ("hf:owner/name:trust=true", "'trust=true' is none of trust_remote_code=true"),
        ("hf:owner/name:trust_remote_code=yes", "'trust_remote_code=yes' is none of"),
        ("a/b/c", "the Hugging Face hub (not a name owner/name)"),
    ],
)
def test_names_that_mean_nothing(name, message, cache):
    assert message in refusal(name)


def test_a_folder_of_another_library_says_its_name(tmp_path):
    folder = make("clip", tmp_path)
    assert f"no open_clip_config.json in this folder. Load it as hf:{folder}" in refusal(f"local-dir:{folder}")


def test_tokenizers_of_the_hub_are_missed_in_one_line(cache):
    """Random weights need no download, but the tokenizer does."""
    message = refusal("ViT-B-16-SigLIP/random")
    assert str(cache) in message and "timm/ViT-B-16-SigLIP" in message
