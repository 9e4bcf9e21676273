"""Folders of models that are incomplete, damaged, or not what they say: one line each, and nothing is made up.

Run: python -m pytest tests/encoders/test_damaged_models.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from library_models import make
from open_clip_models import make_open_clip
from safetensors.torch import load_file, save_file

from i0t import I0TError, load_encoder

NAMES = {"hf": "config.json", "local-dir": "open_clip_config.json"}
RAN: list[str] = []


class Code:
    """Would run when it is unpickled."""

    def __reduce__(self) -> Any:
        return RAN.append, ("code of a .bin file",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder by the prefix that loads it."""
    root = tmp_path_factory.mktemp("whole")
    folders = {"hf": make("clip", root), "local-dir": make_open_clip("siglip", root / "open_clip")}
    folders["text"] = make_open_clip("text_of_transformers", root / "open_clip")
    return folders


@pytest.fixture(autouse=True)
def no_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def weights(folder: Path) -> Path:
    return next(folder.glob("*model.safetensors"))


def without(*patterns: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return change


def with_weights(content: bytes) -> Callable[[Path], None]:
    return lambda folder: weights(folder).write_bytes(content) and None


def cut(folder: Path) -> None:
    weights(folder).write_bytes(weights(folder).read_bytes()[:-1000])


def as_bin(value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        name = "open_clip_pytorch_model.bin" if (folder / "open_clip_config.json").exists() else "pytorch_model.bin"
        torch.save(load_file(weights(folder)) if value is None else value, folder / name)
        weights(folder).unlink()

    return change


def in_shards_of_which_one_is_missing(folder: Path) -> None:
    tensors = load_file(weights(folder))
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    parts = {key: names[number % 2] for number, key in enumerate(tensors)}
    first = {key: tensor for key, tensor in tensors.items() if parts[key] == names[0]}
    save_file(first, folder / names[0], metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    weights(folder).unlink()


def with_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name"}))


def adapter_alone(folder: Path) -> None:
    without("*")(folder)
    with_adapter(folder)


def configured(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in NAMES.values():
            if (folder / name).exists():
                (folder / name).write_text(text)

    return change


def of_another_width(folder: Path) -> None:
    for name in NAMES.values():
        if (folder / name).exists():
            text = (folder / name).read_text()
            (folder / name).write_text(text.replace('"hidden_size": 32', '"hidden_size": 48').replace(
                '"width": 32', '"width": 48'))  # fmt: skip


def with_few_tokens(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 10
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(weights(folder))
    key = "text_model.embeddings.token_embedding.weight"
    save_file({**tensors, key: tensors[key][:10].clone()}, weights(folder), metadata={"format": "pt"})


def of_an_unknown_text_model(folder: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "nobody/nothing"
    (folder / "open_clip_config.json").write_text(json.dumps(config))


BOTH = [
    (with_weights(b""), "its weights are damaged: .*copy or download them again"),
    (with_weights(b"\xff" * 99), "its weights are damaged"),
    (with_weights(b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n"), "its weights are damaged"),
    (cut, "its weights are damaged"),
    (without("*.safetensors"), "no file named model.safetensors|pretrained weights"),
    (as_bin({"a": Code()}), "its .bin file is damaged or holds code, which is not run; take .* safetensors"),
    (with_adapter, r"holds an adapter of PEFT .*merge_and_unload"),
    (adapter_alone, r"holds an adapter of PEFT .*merge_and_unload"),
    (configured("{"), "JSON|property name"),
    (configured("{}"), "model_type|no 'text_cfg'|holds none of"),
    (configured("[]"), "model_type|'list' object"),
    (of_another_width, "other sizes than its config.json states|text pos_embed width changed"),
]
CASES = [(prefix, change, message) for prefix in NAMES for change, message in BOTH] + [
    ("hf", without("tokenizer.json"), r"its tokenizer knows no words.*missing \(merges.txt, tokenizer.json"),
    ("hf", in_shards_of_which_one_is_missing, "No such file.*model-00002-of-00002.safetensors"),
    ("hf", with_few_tokens, r"its tokenizer gives the id \d+, but its model has 24 tokens at most"),
    ("local-dir", without("spiece.model"), "the file of its sentencepiece tokenizer is missing"),
    ("text", of_an_unknown_text_model, "nobody/nothing: neither in the cache .*hf download nobody/nothing"),
]


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize(("prefix", "change", "message"), CASES)
def test_a_damaged_folder_is_refused_in_one_line(whole, tmp_path, prefix, change, message, bare):
    folder = tmp_path / "a model"
    shutil.copytree(whole[prefix], folder)
    change(folder)
    with pytest.raises(I0TError, match=message) as caught:
        load_encoder(folder if bare else f"{'hf' if prefix == 'hf' else 'local-dir'}:{folder}")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert not RAN


@pytest.mark.parametrize("prefix", NAMES)
def test_old_weights_of_torch_are_loaded(whole, tmp_path, prefix):
    shutil.copytree(whole[prefix], tmp_path / "old")
    as_bin(None)(tmp_path / "old")
    texts = ["a cat", "two dogs"]
    assert load_encoder(tmp_path / "old").encode_texts(texts).equal(load_encoder(whole[prefix]).encode_texts(texts))


@pytest.mark.parametrize("name", ["a\nb", "hf:a\nb", "a\0b", "a/" + "b" * 300, "hf:../name", "hf:-a/b", "C:\\a\\b", ""])
def test_odd_names_are_refused_in_one_line(name):
    with pytest.raises(I0TError) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


def test_a_home_folder_is_found(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(whole["hf"], tmp_path / "mine")
    assert load_encoder("~/mine").embed_dim == load_encoder("hf:~/mine").embed_dim == 128
