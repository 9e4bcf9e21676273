"""Damaged files of every format: a result, or one line that names the file; never another error, no hang, no change.

Run: python -m pytest tests/fuzz
More inputs: I0T_FUZZ=1000 (per format), other inputs: I0T_FUZZ_SEED=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzed_formats import FORMATS, Format, make

from i0t.errors import I0TError
from i0t.paths import Roots

EXAMPLES = int(os.environ.get("I0T_FUZZ", 12))
SEED = os.environ.get("I0T_FUZZ_SEED", "0")
SECONDS = 20  # a case; most take milliseconds


class Hang(BaseException):
    """Not an `Exception`, so that no reader takes it for bad input."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory, sample_roots: Roots) -> Path:
    """A folder with one valid file of each format."""
    root = tmp_path_factory.mktemp("valid") / "root"
    make(root, sample_roots)
    return root


def outcome(form: Format, root: Path) -> str:
    """Return whether the file was accepted or refused; fails for anything else."""
    path = form.path(root)
    before = path.read_bytes()
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            form.read(root)
        found = "accepted"
    except I0TError as error:
        message, found = str(error), "refused"
        assert len(message.splitlines()) == 1, message
        assert any(part in message for part in (path.name, path.stem)), message
    assert path.read_bytes() == before, "the user's file was changed"
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_a_result_or_one_line(name, valid, monkeypatch):
    form = FORMATS[name]
    monkeypatch.setenv("I0T_CONFIGS", str(valid / "configs"))
    path = form.path(valid)
    whole = path.read_bytes()
    counts = {"accepted": 0, "refused": 0}
    try:
        assert outcome(form, valid) == ("refused" if name == "npz" else "accepted")
        for number in range(EXAMPLES):
            path.write_bytes(whole)
            form.spoil(path, Random(f"{SEED} {name} {number}"))
            try:
                counts[outcome(form, valid)] += 1
            except BaseException as error:
                kept = os.environ.get("I0T_FUZZ_KEEP")
                if kept:
                    shutil.copy(path, Path(kept) / f"{name.replace(' ', '_')}-{SEED}-{number}{path.suffix}")
                    with open(Path(kept) / "found.txt", "a") as stream:
                        stream.write(f"{name} {SEED} {number}: {type(error).__name__}: {str(error)[:300]!r}\n")
                    continue
                pytest.fail(f"I0T_FUZZ_SEED={SEED}, input {number}: {type(error).__name__}: {error}", pytrace=True)
    finally:
        path.write_bytes(whole)
        for left in path.parent.glob("unpacked"):
            shutil.rmtree(left)
    if os.environ.get("I0T_FUZZ_KEEP"):
        with open(Path(os.environ["I0T_FUZZ_KEEP"]) / "counts.txt", "a") as stream:
            stream.write(f"{name}: {counts}\n")


def image_named(name: bytes) -> Callable[[bytes], bytes]:
    """Rename an image of the list."""
    return lambda content: content.replace(b"coco/train2017/", name, 1)


@pytest.mark.parametrize(
    ("name", "damage"),
    [  # inputs that once failed
        ("sharegpt4v", image_named(b"coco/" + b"9" * 5000 + b"/")),
        ("sharegpt4v", image_named(b"coco/\\u0000/")),
        ("sharegpt4v", lambda content: content.replace(b'"value": "', b'"value": "\xed\xa0\x80', 1)),
        ("nocaps list", lambda content: content.replace(b'"image_id": 1', b'"image_id": "\\n"', 1)),
        ("qrels parquet", lambda content: content[:-9] + b"\x0f" + content[-8:]),
        ("qrels parquet", lambda content: content.replace(b"t1", b"t\x8a")),
        ("qrels json", lambda content: b"[" * 100_000),
        ("qrels json", lambda content: b'{"0.jpg": {"t1": ' + b"9" * 5000 + b"}}"),
        ("qrels json", lambda content: content.replace(b": 1", b": true", 1)),
        ("pairs csv", lambda content: content.replace(b"dog", b"d\xf6g")),
        ("pairs json", lambda content: content.decode().encode("utf-16")),
        ("recipe", lambda content: content + b"seed: 2024-13-45\n"),
        ("recipe", lambda content: content + b"objective_args: " + b"[" * 5000),
        ("recipe", lambda content: content + b"epochs: !!int x\n"),
        ("path file", lambda content: content + b"/elsewhere\n"),
        ("path file", lambda content: b"~nosuchuser/data\n"),
        ("path file", lambda content: b"x" * 5000),
        ("record", lambda content: content.replace(b'"model": {', b'"model": 3, "m": {', 1)),
        ("picture png", lambda content: content[:40]),
    ],
)
def test_inputs_that_once_failed(name, damage, valid, monkeypatch):
    monkeypatch.setenv("I0T_CONFIGS", str(valid / "configs"))
    path = FORMATS[name].path(valid)
    whole = path.read_bytes()
    assert damage(whole) != whole
    try:
        path.write_bytes(damage(whole))
        outcome(FORMATS[name], valid)
    finally:
        path.write_bytes(whole)
