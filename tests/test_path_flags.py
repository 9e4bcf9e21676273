"""Every flag that takes a path, with a path that is not there or cannot be written: one line that names it.

Run: python -m pytest tests/test_path_flags.py
"""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import modules, parts, reached

from i0t.embeddings import Embeddings
from i0t.standardize import Standardizer

# Per program, a command line that would run, but for the path that a test puts into it; and where a flag needs another.
WORKING = {
    "i0t advise": "two.safetensors",
    "i0t apply": "two.safetensors --fit-on two.safetensors --output out",
    "i0t apply --folder": "--fit-on fitted.safetensors --output out",
    "i0t apply --images": "--fit-on fitted.safetensors --output out",
    "i0t apply --texts": "--fit-on fitted.safetensors --output out",
    "i0t cache": "",
    "i0t cutoff": "two.safetensors",
    "i0t export": "tiny --to open_clip out",
    "i0t gap": "two.safetensors --bootstrap 0",
    "i0t gap --data-dir": "--model tiny --dataset flickr",
    "i0t gap --data-dir-sub": "--model tiny --dataset flickr",
    "i0t gap --model": "--dataset flickr",
    "i0t models": "",
    "i0t score": "--image a.png --caption dog --model tiny --calibrate-on two.safetensors",
    "i0t score --images": "--pairs list.csv --model tiny --calibrate-on two.safetensors",
    "i0t score --pairs": "--model tiny --calibrate-on two.safetensors",
    "i0t scores": "two.safetensors --output out",
    "i0t search-eval": "two.safetensors",
    "i0t search-eval --qrels": "two.safetensors --fit-on two.safetensors",
    "i0t search-eval --queries": "two.safetensors --fit-on two.safetensors --qrels judged.qrels",
    "i0t standardize apply": "fitted.safetensors --images images.npy --texts texts.npy --output out",
    "i0t standardize fit": "--images images.npy --texts texts.npy --output out.safetensors",
    "i0t standardize merge": "fitted.safetensors --output out.safetensors",
    "scripts/check_data.sh": "",
    "demo": "--size train=1",
    "evaluate_classification": "--embeddings two.safetensors --dataset birdsnap",
    "evaluate_classification --model": "--dataset birdsnap",
    "evaluate_correlation": "--embeddings two.safetensors --dataset flickr8k_expert",
    "evaluate_correlation --model": "--dataset flickr8k_expert",
    "evaluate_retrieval": "--embeddings two.safetensors",
    "evaluate_retrieval --data-dir": "--model tiny",
    "evaluate_retrieval --data-dir-sub": "--model tiny",
    "evaluate_retrieval --fit-on": "--embeddings two.safetensors --remove-gap i0t_post",
    "evaluate_retrieval --model": "",
    "scripts/prepare_data.sh": "flickr30k --from . --data-dir . --data-dir-sub .",
    "python -m i0t.data.sample": "--output out --train 0 --flickr 0 --coco 0 --nocaps 0 --judged 0",
    "table": "record.json",
    "train": "--base tiny",
}
PATHS = {"FILE", "DIR", "GLOB", "FOLDER", "SOURCE", "RECORD.json", "{test,train,FILE}", "NAME|CHECKPOINT", "WHAT"}
WRITTEN = {"--output", "--json", "--csv", "--report", "folder"}
POSITIONAL = ("two.safetensors", "fitted.safetensors", "record.json", "tiny")


def path_flags() -> list[tuple[str, str, str]]:
    """(module, program with its sub-command, flag) of every flag that takes a path."""
    own = [module for module in modules() if module.startswith(("i0t", "evaluation")) and module != "i0t.standardize"]
    return [
        (module, part.prog, (action.option_strings or [action.dest])[-1])
        for module in own
        for part in parts(reached(module)[0])
        for action in part._actions
        if action.metavar in PATHS or action.type is Path or action.dest in ("model", "base")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 40, 8)).astype("float32") + 1
    np.save(place / "images.npy", images)
    np.save(place / "texts.npy", texts)
    names = [f"{row}.jpg" for row in range(40)]
    Embeddings(images, texts, np.arange(40), names, names).save(place / "two.safetensors")
    Image.new("RGB", (40, 40), "red").save(place / "a.png")
    for name in ("a-file", "record.json"):
        (place / name).touch()
    (place / "list.csv").write_text("image,caption\nb.png,a dog\n")
    (place / "judged.qrels").write_text("text:0 0 image:1 1\n")
    Standardizer().fit(images, texts).save(place / "fitted.safetensors")
    return place


@pytest.mark.parametrize(("module", "prog", "flag"), path_flags())
def test_a_wrong_path_is_one_line_that_names_it(module, prog, flag, folder, configs, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    wrong = "a-file/x" if flag in WRITTEN else "nowhere/x.safetensors"
    words = shlex.split(WORKING.get(f"{prog} {flag}", WORKING[prog]))
    if flag.startswith("--"):
        given = [*words, flag, wrong]
    else:
        given = [wrong if word in (("out",) if flag == "folder" else POSITIONAL) else word for word in words]
    sub = prog.split()[2:] if prog.startswith("i0t standardize") else []
    main = import_module(f"{module}.__main__") if hasattr(import_module(module), "__path__") else import_module(module)
    status = main.main([*sub, *given])
    said = capsys.readouterr().err.splitlines()
    assert status == 2 and said[-1].startswith("error: ") and wrong.split("/")[0] in said[-1], said[-2:]
