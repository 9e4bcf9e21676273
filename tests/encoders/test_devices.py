"""The card and precision of a process, tested without a card: torch's answers are replaced.

Run: python -m pytest tests/encoders/test_devices.py
"""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext

import pytest
import torch

from i0t import I0TError, cli
from i0t.encoders.precision import resolve_precision
from i0t.processes import own_device
from i0t.training import accelerator as accelerator_module
from i0t.training.__main__ import parse
from i0t.training.accelerator import make_accelerator


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the second of two processes on a machine with two cards."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cards on which something was allocated, or that were made current."""
    cards: list[str] = []
    monkeypatch.setattr(torch, "empty", lambda *_, device: cards.append(str(device)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: cards.append(str(device)))
    return cards


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The arguments that accelerate got."""
    asked: list[dict] = []
    monkeypatch.setattr(accelerator_module, "Accelerator", lambda **options: asked.append(options))
    return asked


@pytest.fixture(params=["own", "emulated"])
def card(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The precision of a card with native bf16 (A100) or emulated bf16 (V100, T4)."""
    native = request.param == "own"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    return "bf16" if native else "fp16"


@pytest.mark.parametrize("asked", [None, "cuda", "cuda:0"])
def test_process_touches_no_card_but_its_own(second_of_two, touched, made, card, asked):
    """A context of each process on the first card would take memory there."""
    assert cli.device_of(Namespace(device=asked)) == "cuda:1"
    make_accelerator(asked or "cuda")
    assert set(touched) == {"cuda:1"}


def test_processes_share_cards_as_accelerate_deals_them(second_of_two, monkeypatch):
    assert own_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device("cuda") == "cuda:0"


def test_one_process_uses_the_card_asked_for(touched, made, card):
    assert cli.device_of(Namespace(device="cuda:1")) == "cuda:1"
    make_accelerator("cuda:1")
    assert touched == ["cuda:1", "cuda:1"]


def test_device_that_computes_nothing_is_refused():
    with pytest.raises(I0TError, match="--device meta: computes nothing. Use --device cpu"):
        cli.usable_device("meta")


def test_device_that_is_not_there_is_reported(monkeypatch):
    def fails(*_, device):
        raise RuntimeError("no such card\nCompile with ...")

    monkeypatch.setattr(torch, "empty", fails)
    with pytest.raises(I0TError, match="--device cuda:9: no such card. Use --device cpu"):
        cli.device_of(Namespace(device="cuda:9"))


def test_emulated_bf16_is_not_chosen(card, made, monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    assert resolve_precision(torch.device("cuda", 0)) == card
    make_accelerator("cuda")
    make_accelerator("cuda:0", "fp32")
    make_accelerator("cpu")
    assert [options["mixed_precision"] for options in made] == [card, "no", "no"]


def test_batch_size_of_training_is_not_one_of_memory(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--batch-size N pairs per step, over all processes" in said and "chunk_size=N" in said
    assert parse(["--batch-size", "8"])[0].overrides == {"batch_size": 8}
