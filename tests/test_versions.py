"""Versions: what is in use is named everywhere by one function, and setup asks for what the tests passed with.

Run: python -m pytest tests/test_versions.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import requires, version

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from i0t.__main__ import main
from i0t.paths import REPO
from i0t.versions import versions

CONSTRAINTS = REPO / "environments" / "constraints.txt"


def recorded() -> dict[str, str]:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_versions_are_those_that_are_imported():
    found = versions()
    assert found["numpy"] == version("numpy") and found["torch"] == version("torch")
    assert found["cuda"] == torch.version.cuda
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_what_is_not_installed_is_none(monkeypatch):
    monkeypatch.setattr("i0t.versions.PACKAGES", ("torch", "no-such-package"))
    assert versions()["no-such-package"] is None


def test_the_command_names_them_without_loading_torch():
    code = (
        "import sys, i0t.__main__\n"
        "try: i0t.__main__.main(['--version'])\n"
        "finally: assert not {'torch', 'numpy', 'open_clip'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, capture_output=True, text=True)
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert shown["numpy"] == version("numpy") and shown["transformers"] == version("transformers")
    assert re.fullmatch(r"\S+ \(built for (CUDA [\d.]+|the CPU)\)", shown["torch"])
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0


def test_constraints_name_versions_and_nothing_else():
    found = recorded()
    assert all(re.fullmatch(r"[a-z0-9-]+", name) and re.fullmatch(r"[\w.]+", text) for name, text in found.items())
    assert not [name for name in found if name.startswith(("nvidia", "cuda", "triton"))], "of one build of torch"


def test_constraints_have_every_requirement_in_its_range():
    found = recorded()
    needed = [Requirement(text) for text in requires("i0t") or ()]
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": "test"})]
    assert len(needed) > 25
    for one in needed:
        name = canonicalize_name(one.name)
        assert name in found, f"{name}: run scripts/record_versions.sh once the tests pass with it"
        assert one.specifier.contains(Version(found[name])), one


STAND_IN = """#!/usr/bin/env bash
# A Python whose pip installs nothing, and refuses constraints, as one without a wheel for this platform does.
case "$*" in
    *sys.prefix*) echo "$PREFIX" ;;
    *find_spec*) exit "$NO_TORCH" ;;
    *platform*) echo "Python 3.10 on Plan9 vax" ;;
    *"pip install"*) echo "${@:2}" >> "$PREFIX/asked"; case "$*" in *--constraint*) exit "$REFUSES" ;; esac ;;
esac
"""


@pytest.mark.parametrize(
    ("no_torch", "refuses", "constrained", "said"),
    [
        (1, 0, [True], ""),
        (1, 1, [True, False], "note: pip cannot install the tested versions (environments/constraints.txt) for Python"),
        (0, 1, [False], ""),  # a user's own environment keeps its versions
    ],
)
def test_setup_takes_the_tested_versions_or_says_that_it_does_not(tmp_path, no_torch, refuses, constrained, said):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python), "PREFIX": str(tmp_path)}
    env |= {"NO_TORCH": str(no_torch), "REFUSES": str(refuses)}
    setup = ["bash", str(REPO / "scripts" / "setup.sh")]
    first = subprocess.run(setup, env=env, check=True, capture_output=True, text=True)
    assert first.stderr.startswith(said) and first.stderr.count("\n") == bool(said)
    asked = [line for line in (tmp_path / "asked").read_text().splitlines() if "--editable" in line]
    assert ["--constraint" in line for line in asked] == constrained
    again = subprocess.run(setup, env=env, check=True, capture_output=True, text=True)
    assert again.stdout == again.stderr == ""
