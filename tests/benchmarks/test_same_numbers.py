"""Differences that `python -m benchmarks.same_numbers compare` reports or ignores.

Run: python -m pytest tests/test_same_numbers.py
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.recording import KEPT, STEPS
from benchmarks.same_numbers import main


def recording(folder, digest="0a1b2c3d", recall=25.0, feature=1.0, **fields):
    """A recording of one step: a record with its embeddings, and what the step printed."""
    step = folder / "retrieval-none"
    step.mkdir(parents=True)
    facts = {"folder": str(folder), "checkout": "/code", "commit": "c0ffee", "failed": [], "machine": ["here"]}
    (folder / "recorded.json").write_text(json.dumps(facts))
    record = {"task": "retrieval", "dataset": "coco", "metrics": {"i2t_r1": recall}, "seconds": np.random.rand()}
    record |= {"source": f"{folder}/sample/coco.json", "means": f"means-{digest}.safetensors", **fields}
    (step / f"retrieval-coco-{digest}.json").write_text(json.dumps(record))
    header = {"format": "i0t-embeddings-1", "metadata": json.dumps({"task": "retrieval", "dataset": "coco"})}
    vectors = {"image_features": np.array([[feature, 2.0]], dtype=np.float32)}
    save_file(vectors, step / f"retrieval-coco-{digest}.embeddings.safetensors", {**header, "digest": digest})
    (step / "printed.txt").write_text(f"R@1 {recall:.0f}\n")
    return folder


@pytest.fixture
def compared(tmp_path, capsys):
    def compare(**fields):
        first, second = recording(tmp_path / "a"), recording(tmp_path / "b" / "deeper", **fields)
        status = main(["compare", str(first), str(second)])
        return status, capsys.readouterr().out

    return compare


def test_folders_digests_and_times_are_no_difference(compared):
    status, printed = compared(digest="ffffffff")
    assert status == 0 and "3 files" in printed and printed.endswith(" the same\n")
    assert "different" not in printed and "missing" not in printed
    assert "metadata (1)" in printed  # reported all the same: the header holds the digest


def test_the_last_bit_is_a_difference(compared):
    status, printed = compared(recall=np.nextafter(25.0, 26.0), feature=np.nextafter(np.float32(1), np.float32(2)))
    assert status == 1 and "NOT the same" in printed
    assert "metrics.i2t_r1: 25.0 -> 25.000000000000004" in printed
    assert "tensors.image_features: 1 of 2 differ, by up to 1.2e-07" in printed


@pytest.mark.parametrize("number", [25, -0.0])
def test_kind_and_sign_of_a_number(compared, number):
    assert compared(recall=number)[0] == 1


def test_new_fields_are_reported_and_lost_ones_fail(tmp_path, capsys):
    small, large = recording(tmp_path / "small"), recording(tmp_path / "large", more={"loss": 0.5})
    assert main(["compare", str(small), str(large)]) == 0
    assert "extra (1)\n  retrieval-none: record retrieval coco\n    more.loss: none -> 0.5" in capsys.readouterr().out
    assert main(["compare", str(large), str(small)]) == 1
    assert "missing (1)" in capsys.readouterr().out


def test_flags_may_change_and_are_reported(compared):
    status, printed = compared(config={"flags": {"dataset": ["coco"]}})
    assert status == 0 and "allowed, the flags as a program calls them" in printed


def test_what_steps_keep_is_used_by_later_ones():
    names = re.findall("^(.+?): ", STEPS, re.MULTILINE)
    assert len(names) == len(set(names)) and set(KEPT) <= set(names)
    for step, (_, kept) in KEPT.items():
        assert f"kept/{kept}" in STEPS.replace("{model}", "--model kept/stage1.safetensors"), step
