"""The library on its own: what a wheel holds works from any folder, without the checkout.

Run: python -m pytest tests/test_installed.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from parity_fixture import Fixture
from programs import modules

from i0t.encoders.load import known_models
from i0t.paths import REPO
from i0t.training.recipe import recipe_names

SOURCES = ("i0t", "baselines", "evaluation", "configs", "setup.py", "pyproject.toml", "LICENSE")
PRIVATE = ("root.txt", "subroot.txt", "ckpt_file_name.txt")
EVERYTHING = f"""
import io, json, sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import i0t, i0t.paths, i0t.encoders.load as load
from i0t.__main__ import COMMANDS, main
from i0t.results.record import git_commit
from i0t.training.recipe import load_recipe, recipe_names

assert not Path(i0t.__file__).is_relative_to({str(REPO)!r}), i0t.__file__
assert load.known_models() == json.loads(sys.argv[1]) and recipe_names() == json.loads(sys.argv[2])
for name in recipe_names():
    load_recipe(name)
for name in load.known_models():
    spec = load._read(load._spec_file(name))
    assert callable(load._loader(load._spec_file(name), spec["loader"])), name
assert i0t.load_encoder("tiny").embed_dim == 128
try:
    i0t.load_encoder("longclip")
except i0t.I0TError as error:
    assert "no file <data_dir>/longclip-B-32.pt" in str(error) and ".config/i0t/root.txt" in str(error), error
for name in COMMANDS:
    with redirect_stdout(io.StringIO()) as shown:
        try:
            main([name, "--help"])
        except SystemExit as stopped:
            assert stopped.code == 0, name
    assert f"usage: i0t {{name}}" in shown.getvalue(), name
for name in json.loads(sys.argv[3]):
    part = import_module(name)
    with redirect_stdout(io.StringIO()) as shown:
        try:
            (import_module(name + ".__main__") if hasattr(part, "__path__") else part).main(["--help"])
        except SystemExit as stopped:
            assert stopped.code == 0, name
    assert shown.getvalue().startswith("usage: "), name
assert i0t.load_encoder(sys.argv[4]).embed_dim == 48
assert git_commit() is None
print(i0t.paths.TENSORS, i0t.paths.configs_folder())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The content of a wheel, in a folder outside the checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPO / name, source / name)
    for name in PRIVATE:
        (source / "configs" / name).write_text("/home/me/secret\n")
    wheel = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)]
    subprocess.run([sys.executable, "-m", *wheel], check=True, capture_output=True, text=True)
    (file,) = target.glob("*.whl")
    with zipfile.ZipFile(file) as content:
        content.extractall(target)
    return target


def python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` with nothing but the wheel and the environment's packages."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("I0T_", "XDG_"))}
    env |= {"PYTHONPATH": str(installed), "HOME": str(folder)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)


def test_installed_package_holds_all_but_the_users_own(installed):
    held = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    for folder in ("recipes", "models", "templates", "classes", "accelerate"):
        ours = {f"i0t/{path.relative_to(REPO).as_posix()}" for path in (REPO / "configs" / folder).rglob("*.*")}
        assert ours and ours <= held
    assert {"baselines/blip.py", "evaluation/retrieval.py", "i0t/report/assets/page.html"} <= held
    assert not [name for name in held if name.endswith(PRIVATE) or name.startswith(("tests", "benchmarks"))]


def test_installed_library_has_every_spec_recipe_rival_command_and_program(installed, tmp_path):
    programs = [name for name in modules() if name.startswith(("i0t.data", "i0t.training", "evaluation"))]
    names = [json.dumps(list) for list in (known_models(), recipe_names(), programs)]
    longclip = Fixture.read("longclip").save(tmp_path / "longclip.pt")
    done = python(installed, tmp_path, "-c", EVERYTHING, *names, f"longclip:file={longclip}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["tensors", f"{tmp_path}/.config/i0t"]


def test_folder_that_hides_the_rivals_is_named(installed, tmp_path):
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "__init__.py").touch()
    done = python(installed, tmp_path, "-m", "i0t", "score", "--model", "longclip", "--image", "a", "--caption", "b")
    assert done.returncode == 2 and f"Python found baselines in {tmp_path}/baselines)" in done.stderr, done.stderr


def test_installed_programs_name_no_script(installed, tmp_path):
    done = python(
        installed,
        tmp_path,
        "-m",
        "evaluation.retrieval",
        "--data-dir",
        ".",
        "--data-dir-sub",
        ".",
        "--dataset",
        "flickr",
    )
    assert done.returncode == 2 and "scripts/" not in done.stderr, done.stderr
    shown = python(installed, tmp_path, "-m", "i0t.training", "--help").stdout
    assert "python -m i0t.training --recipe lcco steps=100" in shown and "scripts/" not in shown


def test_installed_program_writes_below_the_current_folder(installed, tmp_path):
    """Path files in ~/.config/i0t are read; without them there is the sample, which is too much to draw here."""
    (tmp_path / ".config" / "i0t").mkdir(parents=True)
    (tmp_path / ".config" / "i0t" / "root.txt").write_text("nowhere\n")
    done = python(installed, tmp_path, "-m", "evaluation.retrieval", "--model", "tiny", "--dataset", "flickr")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: {tmp_path}/.config/i0t/root.txt:1: no such folder: {tmp_path}/.config/i0t/nowhere."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config", "tensors"]
