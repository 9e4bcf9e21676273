"""The hub of Hugging Face: one that answers, one that does not, and the commit of what came from it.

Run: python -m pytest tests/encoders/test_hub.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
from library_models import make
from local_hub import COMMIT, local_hub

from i0t import I0TError, load_encoder
from i0t.encoders.hub import require_no_adapter

LOAD = """
import huggingface_hub
from i0t import I0TError, load_encoder
encoder = load_encoder("owner/name")
print(encoder.fingerprint, encoder.source["revision"])
try:
    load_encoder("hf:owner/other")
except I0TError as error:
    print(error)
huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"
print(load_encoder("hf:owner/name").fingerprint)
"""


@pytest.fixture
def silent(tmp_path, monkeypatch) -> Path:
    """The empty cache of a machine where nothing answers."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.mark.parametrize("name", ["hf:owner/name", "hf-hub:owner/name", "st:owner/name", "owner/name"])
def test_a_hub_that_does_not_answer_is_asked_once(name, silent):
    start = time.monotonic()
    with pytest.raises(I0TError) as caught:
        load_encoder(name)
    assert time.monotonic() - start < 15, "each file is tried for half a minute"
    message = str(caught.value)
    for part in (str(silent), "http://127.0.0.1:9 does not answer: ", "hf download owner/name", "HF_HUB_CACHE=FOLDER"):
        assert part in message
    assert "\n" not in message and not huggingface_hub.constants.HF_HUB_OFFLINE


def test_weights_and_tokenizers_of_open_clip_are_asked_for_once(silent):
    start = time.monotonic()
    for name in ("ViT-B-32/openai", "ViT-B-16-SigLIP/random"):
        with pytest.raises(I0TError, match=r"127\.0\.0\.1:9 does not answer"):
            load_encoder(name)
    assert time.monotonic() - start < 30


def test_what_needs_no_hub_does_not_ask_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: pytest.fail("asked"))
    assert "revision" not in load_encoder(f"hf:{make('clip', tmp_path)}").source
    load_encoder("tiny")


def test_an_adapter_is_looked_for_in_the_revision_that_is_loaded(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, revision: asked.append(revision))
    with pytest.raises(I0TError, match="holds an adapter of PEFT"):
        require_no_adapter("owner/name", "hf:owner/name:revision=abc", "abc")
    assert asked == ["abc"]


@pytest.mark.slow
def test_a_hub_that_answers_gives_the_model_which_stays_in_the_cache(tmp_path):
    folder = make("clip", tmp_path)
    with local_hub("owner/name", folder) as (address, requests):
        settings = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "cache")}
        settings |= {"HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run([sys.executable, "-c", LOAD], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, missing, second = done.stdout.splitlines()
    expected = load_encoder(f"hf:{folder}").fingerprint
    assert first == f"{expected} {COMMIT}" and second == expected
    assert missing.startswith("owner/other: neither in the cache") and "does not answer" not in missing
    assert "GET /owner/name/resolve/main/model.safetensors" in requests
