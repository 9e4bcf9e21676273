"""`i0t models`: every spec, what it needs, and whether that is here.

Run: python -m pytest tests/encoders/test_models_command.py
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from i0t.__main__ import main
from i0t.commands.models import listing
from i0t.encoders.load import known_models
from i0t.paths import Roots


@pytest.fixture
def listed(tmp_path, monkeypatch, capsys, configs):
    """Run `i0t models` with an empty <data_dir> and an empty cache of the hub; lines by the first word."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("i0t.commands.models.TENSORS", tmp_path / "tensors")
    (tmp_path / "data").mkdir()

    def run() -> dict[str, str]:
        assert main(["models", "--data-dir", str(tmp_path / "data")]) == 0
        return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}

    return run


def put(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")


def test_every_model_is_listed_with_its_licence_and_is_here_once_its_file_is(listed, tmp_path):
    found = listed()
    assert set(known_models()) <= set(found)
    assert found["tiny"].endswith("yes") and found["longclip"].split() == ["longclip", "Apache-2.0", "no"]
    assert "not stated" in found["cyclip"] and " MIT " in found["clip"] and found["clip"].endswith("no")

    put(tmp_path / "data" / "cyclip.pt" / "best.pt")
    put(tmp_path / "hub" / "models--timm--vit_base_patch32_clip_224.openai" / "snapshots" / "1" / "model.safetensors")
    put(tmp_path / "data" / "checkpoints" / "mine.safetensors")
    found = listed()
    assert found["cyclip"].endswith("yes") and found["clip"].endswith("yes") and found["longclip"].endswith("no")
    mine = found[str(tmp_path / "data" / "checkpoints" / "mine.safetensors")]
    assert "yours" in mine and mine.endswith("yes")


def test_a_model_is_here_if_all_of_its_files_are(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put(tmp_path / "blip2" / "eva_vit_g.pth")
    lines = listing(Roots(tmp_path, tmp_path)).splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("blip2 "))
    assert [line.split()[-1] for line in lines[start : start + 4]] == ["no", "no", "yes", "no"]
    assert lines[start + 1].split()[:4] == ["└", "blip2/blip2_pretrained.pth", "0.75", "GB"]
    assert all(len(line) <= 100 for line in lines)


def test_licence_is_no_argument_of_the_loader(configs):
    from i0t import I0TError, load_encoder

    with pytest.raises(I0TError, match="no file .*longclip-B-32.pt"):
        load_encoder("longclip")
