"""Files that are complete or absent, path files and checkpoint names, imports, and records.

Run: python -m pytest tests/test_files_paths_records.py
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import i0t.data.sample
from evaluation.protocol import describe
from i0t import Embeddings, I0TError, Standardizer, cli, paths
from i0t.cli import resolve_roots
from i0t.data.sample import SampleSize, make_sample
from i0t.files import atomic_path, ensure_folder, file_sha256, is_writable, list_sha256, write_json
from i0t.paths import REPO, Roots, last_checkpoint, read_path_file, write_last_checkpoint
from i0t.reading import read_json
from i0t.results.record import Record, environment
from i0t.versions import versions

# --- files -----------------------------------------------------------------------------------


def test_atomic_path_replaces_the_old_file_at_the_end(tmp_path):
    path = tmp_path / "new" / "out.txt"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent.parent == path.parent and temporary.name == path.name
            assert not path.exists() if content == "first" else path.read_text() == "first"
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_nothing_behind_on_failure(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_written_files_can_be_read_by_the_group(tmp_path):
    """Temporary files are private; the final file has the usual mode of a new file."""
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "ours.json", [])
    assert (tmp_path / "ours.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("below", ["", "a/b"])
def test_folder_without_write_bit_is_read_only_even_for_root(tmp_path, below):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    folder = locked / below
    assert not is_writable(folder)
    with pytest.raises(I0TError, match="output folder cannot be (written|made).*--output"):
        ensure_folder(folder)
    with pytest.raises(I0TError, match=re.escape(str(folder))), atomic_path(folder / "out.txt"):
        pytest.fail("a path in a locked folder")
    assert not list(locked.iterdir())
    locked.chmod(0o755)
    assert is_writable(folder)
    assert ensure_folder(folder).is_dir()


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert not is_writable(folder)
        with pytest.raises(I0TError, match=re.escape(str(folder))):
            ensure_folder(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1', r"not valid JSON \(the captions\).*download the file again"),
        (b"", "not valid JSON"),
        (b'"caf\xe9"', "line 1 is not UTF-8.*Latin-1"),
        (None, r"no such file \(the captions\)"),
        ("folder", "cannot be read"),
    ],
)
def test_read_json_names_the_file(tmp_path, content, message):
    path = tmp_path / "captions.json"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(I0TError, match=rf"captions\.json: {message}"):
        read_json(path, "the captions")


def test_json_with_a_byte_order_mark_is_read_and_a_key_given_twice_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'[{"image": "a.jpg"}]')
    assert read_json(path, "pairs") == [{"image": "a.jpg"}]
    path.write_text('[{"image": "a.jpg", "x": {"k": 1, "k": 1}}]')
    with pytest.raises(I0TError, match=r'a\.json: the key "k" is given twice \(pairs\)'):
        read_json(path, "pairs")


def test_json_roundtrip_and_nan_in_ratings(tmp_path):
    content = {"größe": ["大", 1, 2.5, None, True], "nested": {"a": []}}
    write_json(tmp_path / "out.json", content)
    assert read_json(tmp_path / "out.json", "it") == content
    (tmp_path / "nan.json").write_text('{"rating": NaN}')
    assert math.isnan(read_json(tmp_path / "nan.json", "ratings")["rating"])


def test_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert list_sha256(["ä", ""]) == hashlib.sha256("ä\0\0".encode()).hexdigest()
    lists = (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", ""], ["abc"], [])
    assert len({list_sha256(items) for items in lists}) == len(lists)


# --- path files ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configs folder; results and checkpoints go below `tmp_path`."""
    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.setenv("I0T_CONFIGS", str(folder))
    for module in (paths, cli):
        monkeypatch.setattr(module, "TENSORS", tmp_path / "tensors")
    return folder


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{data}", 1),
        ("{data}\n", 1),
        ("  {data} \t\r\n", 1),
        ("# where the data are\n\n   # more\n{data}\n# /ignored\n", 4),
        ("\ufeff{data}\n", 1),  # as Windows editors write it
    ],
)
def test_path_file_is_stripped_and_comments_are_skipped(folder, tmp_path, content, line):
    data = tmp_path / "my data #1"
    data.mkdir()
    (folder / "root.txt").write_text(content.format(data=data), encoding="utf-8")
    assert resolve_roots() == Roots(data, None)
    assert read_path_file("root.txt") == (str(data), f"{folder / 'root.txt'}:{line}")


def test_home_and_checkout_are_where_short_paths_start(folder, tmp_path, monkeypatch):
    (tmp_path / "home" / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)  # must not matter
    (folder / "root.txt").write_text("~/data\n")
    (folder / "subroot.txt").write_text("tests\n")
    assert resolve_roots() == Roots(tmp_path / "home" / "data", REPO / "tests")


def test_missing_folder_is_an_error_that_names_file_line_and_path(folder, tmp_path):
    (folder / "root.txt").write_text(f"# comment\n{tmp_path / 'gone'}\n")
    with pytest.raises(I0TError, match=rf"{re.escape(str(folder / 'root.txt'))}:2: no such folder: .*/gone\."):
        resolve_roots()
    (folder / "root.txt").write_text(f"{folder / 'root.txt'}\n")
    with pytest.raises(I0TError, match=r"root\.txt:1: no such folder"):
        resolve_roots()
    (folder / "root.txt").unlink()
    (folder / "subroot.txt").write_text("no/such/folder\n")
    with pytest.raises(I0TError, match=r"subroot\.txt:1: no such folder: " + re.escape(str(REPO / "no/such/folder"))):
        resolve_roots()
    with pytest.raises(I0TError, match="--data-dir-sub: no such folder"):
        resolve_roots(sub=str(tmp_path / "gone"))


def test_flags_come_before_path_files(folder, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (folder / "root.txt").write_text(f"{tmp_path / 'a'}\n")
    (folder / "subroot.txt").write_text(f"{tmp_path / 'b'}\n")
    assert resolve_roots(main=str(tmp_path / "c")) == Roots(tmp_path / "c", tmp_path / "b")
    assert resolve_roots(None, str(tmp_path / "c")) == Roots(tmp_path / "a", tmp_path / "c")


def test_one_empty_path_file_is_reported_when_its_data_are_needed(folder, tmp_path):
    (folder / "root.txt").write_text(f"{tmp_path}\n")
    roots = resolve_roots()
    assert not roots.is_sample
    assert roots.data_dir == tmp_path
    with pytest.raises(I0TError, match=r"subroot\.txt: empty, while the other.*<data_dir_sub>"):
        _ = roots.data_dir_sub
    with pytest.raises(I0TError, match=r"root\.txt: empty.*<data_dir>"):
        Roots(None, tmp_path).checkpoints()


@pytest.mark.parametrize("content", [None, "", "\n \n# only a comment\n"])
def test_empty_path_files_mean_the_sample(folder, tmp_path, monkeypatch, capsys, content):
    small = SampleSize(train=10, flickr=1, coco=0, nocaps=0, birdsnap_per_class=0, judged=0)
    monkeypatch.setattr(i0t.data.sample, "make_sample", partial(make_sample, size=small))
    if content is not None:
        (folder / "root.txt").write_text(content)
        (folder / "subroot.txt").write_text(content)
    roots = resolve_roots()
    assert roots.is_sample
    assert roots.data_dir.is_dir() and roots.data_dir.is_relative_to(tmp_path / "tensors" / "sample")
    assert roots.data_dir_sub.is_dir()
    output = capsys.readouterr()
    assert output.out == ""
    assert "built-in sample" in output.err and str(folder / "root.txt") in output.err


# --- checkpoint names ------------------------------------------------------------------------


def written(path: Path, content: str = "weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_checkpoint_in_the_data_folder_is_noted_by_name(folder, tmp_path):
    roots = Roots(tmp_path / "data", None)
    roots.data_dir.mkdir()
    path = written(roots.checkpoints() / "stage1.safetensors")
    assert path.parent == tmp_path / "data" / "checkpoints"
    write_last_checkpoint(path, roots)
    assert (folder / "ckpt_file_name.txt").read_text() == "stage1.safetensors\n"
    assert last_checkpoint(roots) == path
    moved = Roots(shutil.move(tmp_path / "data", tmp_path / "moved"), None)  # a name moves with the data
    assert last_checkpoint(moved) == Path(tmp_path / "moved" / "checkpoints" / "stage1.safetensors")


def test_checkpoint_elsewhere_is_noted_by_its_whole_path(folder, tmp_path, monkeypatch):
    roots = Roots(tmp_path, None)
    path = written(tmp_path / "runs" / "stage1.safetensors")
    monkeypatch.chdir(tmp_path)
    write_last_checkpoint(Path("runs/stage1.safetensors"), roots)
    monkeypatch.chdir("/")
    assert (folder / "ckpt_file_name.txt").read_text() == f"{path}\n"
    assert last_checkpoint(roots) == path


def test_read_only_data_folder_sends_checkpoints_to_tensors(folder, tmp_path):
    roots = Roots(tmp_path / "data", None)
    roots.data_dir.mkdir(mode=0o555)
    path = written(roots.checkpoints() / "stage1.safetensors")
    assert path.parent == tmp_path / "tensors" / "checkpoints"
    write_last_checkpoint(path, roots)
    assert last_checkpoint(roots) == path


def test_new_checkpoint_is_not_mistaken_for_an_old_one_of_the_same_name(folder, tmp_path):
    """The same recipe gives the same name: here a colleague's run in data that we may only read."""
    roots = Roots(tmp_path / "data", None)
    written(tmp_path / "data" / "checkpoints" / "stage1.safetensors", "old").parent.chmod(0o555)
    path = written(roots.checkpoints() / "stage1.safetensors", "new")
    write_last_checkpoint(path, roots)
    assert last_checkpoint(roots).read_text() == "new"


def test_checkpoint_named_by_hand(folder, tmp_path):
    roots = Roots(tmp_path / "data", None)
    path = written(tmp_path / "data" / "checkpoints" / "longclip.safetensors")
    (folder / "ckpt_file_name.txt").write_text("# the one to post-train\n\n  longclip.safetensors  \r\n")
    assert last_checkpoint(roots) == path


def test_checkpoint_that_is_not_there(folder, tmp_path):
    roots = Roots(tmp_path, None)
    with pytest.raises(I0TError, match=r"ckpt_file_name\.txt: no checkpoint is named yet.*scripts/train\.sh"):
        last_checkpoint(roots)
    (folder / "ckpt_file_name.txt").write_text("\ngone.safetensors\n")
    with pytest.raises(I0TError, match=r"ckpt_file_name\.txt:2: no checkpoint gone\.safetensors in"):
        last_checkpoint(roots)


# --- imports ---------------------------------------------------------------------------------

# Prints seconds, whether torch came along, and files that are no code opened while importing.
WATCH = """
import json, sys, time
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
started = time.perf_counter()
{statement}
seconds = time.perf_counter() - started
code = ("/.venv/", "__pycache__", ".egg-info/", ".py")  # and what packaging tools keep
ours = [path for path in opened if path.startswith({repo!r}) and not any(part in path for part in code)]
print(json.dumps([seconds, "torch" in sys.modules, ours]))
"""


def watch(statement: str, tmp_path: Path, **environ: str) -> tuple[float, bool, list[str]]:
    """Run a statement in a fresh interpreter, from a folder that is not the checkout."""
    command = [sys.executable, "-c", WATCH.format(statement=statement, repo=str(REPO))]
    environ = {**os.environ, "PYTHONPATH": str(REPO), **environ}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environ)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_quick_and_needs_no_torch(tmp_path):
    seconds, torch_loaded, files = watch("import i0t", tmp_path)
    assert seconds < 2  # about 0.02 on an idle machine
    assert not torch_loaded
    assert files == []


def test_removing_the_gap_from_arrays_needs_no_torch(tmp_path):
    statement = (
        "import numpy as np; from i0t import Embeddings, Standardizer, modality_gap\n"
        "Standardizer().fit(np.eye(3), -np.eye(3)).transform_image(np.eye(3))"
    )
    _, torch_loaded, _ = watch(statement, tmp_path)
    assert not torch_loaded


def test_no_module_reads_a_file_while_it_is_imported(tmp_path):
    """Path files are read when they are needed, so a missing or damaged one is not an import error."""
    modules = [
        ".".join(path.relative_to(REPO).with_suffix("").parts)
        for package in ("i0t", "evaluation", "baselines")
        for path in sorted((REPO / package).rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]
    assert len(modules) > 35
    statement = f"from importlib import import_module\nfor name in {modules!r}: import_module(name)"
    _, torch_loaded, files = watch(statement, tmp_path, I0T_CONFIGS=str(tmp_path / "gone"))
    assert torch_loaded
    assert files == []
    assert not list(tmp_path.iterdir())


def test_public_names():
    assert {name for name in i0t.__all__ if not getattr(i0t, name)} == set()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = i0t.nothing


# --- records ---------------------------------------------------------------------------------


def record(**changes: object) -> Record:
    """A record as the programs make it."""
    whole = Record(
        task="retrieval",
        dataset="flickr",
        metrics={"i2t_r1": 50.0},
        gap={"centroid_distance": 0.8},
        gap_before={},
        protocol={"captions_per_image": 1, "remove_gap": "i0t_post", "fit_on": "test"},
        config={"model": {"name": "clip", "fingerprint": "0123456789abcdef"}, "flags": {}},
        data={"sha256": "feed", "images": 1000},
        seconds=1.5,
        environment={},
    )
    return replace(whole, **changes)


def strict(text: str) -> object:
    """Parse JSON without Python's own NaN and Infinity."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": {"captions_per_image": 5, "remove_gap": "i0t_post", "fit_on": "test"}},
        {"protocol": {"captions_per_image": 1, "remove_gap": "i0t_post", "fit_on": "train"}},
        {"protocol": {"captions_per_image": 1, "remove_gap": "none"}},
        {"config": {"model": {"name": "clip", "fingerprint": "0123456789abcdee"}, "flags": {}}},
        {"config": {"model": {"name": "clip", "fingerprint": "0123456789abcdef"}, "flags": {"seed": 1}}},
        {"config": {"model": {"name": "clip", "fingerprint": "0123456789abcdef"}, "flags": {"bootstrap": 1000}}},
        {"data": {"sha256": "f00d"}},
        {"dataset": "coco"},
        {"task": "classification"},
    ],
)
def test_names_differ_whenever_the_results_may(change):
    assert record(**change).stem != record().stem


def test_names_are_the_same_for_the_same_run_and_readable():
    assert record().stem == record(metrics={"i2t_r1": 51.0}, seconds=3.0, created="later").stem
    assert re.fullmatch(r"retrieval-flickr-clip-i0t_post-[0-9a-f]{8}", record().stem)
    checkpoint = {"model": {"name": "runs/lccom-seed7-last.safetensors", "fingerprint": "0"}}
    assert record(config=checkpoint).stem.startswith("retrieval-flickr-lccom-seed7-last-i0t_post-")


def test_name_of_an_open_clip_model_holds_its_architecture():
    named = record(config={"model": {"name": "ViT-B-32-quickgelu/openai", "fingerprint": "0"}}).stem
    assert "ViT-B-32-quickgelu" in named
    assert "/" not in named


def test_means_of_other_data_give_another_name():
    """Other training pairs (--seed) or other content of the same file: not the same results."""
    stems = set()
    for seed in (0, 1):
        images, texts = np.random.default_rng(seed).normal(size=(2, 9, 4))
        remover = Standardizer().fit(images, texts, {"fit_on": "train", "dataset": "sharegpt4v"})
        rows = np.eye(4, dtype=np.float32)
        tested = Embeddings(rows, rows, np.arange(4), [""] * 4, [""] * 4, metadata={"dataset": "flickr"})
        stems.add(record(protocol={"captions_per_image": 1, **describe(remover, tested)}).stem)
    assert len(stems) == 2


def test_saved_record_is_json_with_null_for_nan(tmp_path):
    metrics = {"tau": math.nan, "r1": np.float32(0.5), "n": np.int64(3), "none": None, "array": np.float64("nan")}
    data = {"source": Path("/data/x.json"), "pair": (1, [np.nan]), "sha256": "feed", 7: "key", "ok": np.bool_(True)}
    path = record(metrics=metrics, data=data).save(tmp_path / "new")
    assert path == tmp_path / "new" / f"{record().stem}.json"
    content = strict(path.read_text())
    assert content["metrics"] == {"tau": None, "r1": 0.5, "n": 3, "none": None, "array": None}
    expected = {"source": "/data/x.json", "pair": [1, [None]], "sha256": "feed", "7": "key", "ok": True}
    assert content["data"] == expected
    assert content["protocol"] == record().protocol
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("value", [math.inf, -math.inf, np.float32("inf")])
def test_infinity_is_not_json_either(tmp_path, value):
    strict(record(metrics={"loss": value}).save(tmp_path).read_text())


def test_environment_says_what_the_result_rests_on(tmp_path):
    found = environment()
    assert found["versions"] == versions()
    commit = subprocess.run(["git", "-C", str(REPO), "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode == 0:
        assert re.fullmatch(rf"{commit.stdout.strip()}(\+changes)?", found["git_commit"])
    else:
        assert found["git_commit"] is None
    content = strict(record(environment=found).save(tmp_path).read_text())
    assert content["environment"] == found
    assert content["peak_memory_bytes"] > 2**20
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", content["created"])


def test_bad_input_is_a_value_error_and_keeps_its_message(capsys):
    with pytest.raises(ValueError, match="no text mean yet"):
        Standardizer().transform_text(np.eye(2))
    from evaluation.demo import main as demo

    assert demo(["--size", "train=-1"]) == 2
    assert capsys.readouterr().err == "error: Sample size train: -1. Give 0 or more.\n"


def test_peak_memory_is_that_of_the_process_itself():
    """A small process that a large one starts: getrusage would show the peak of the large one."""
    code = (
        "import subprocess, sys, numpy as np; large = np.ones(60_000_000); "
        "small = 'from i0t.results.record import peak_memory_bytes as p; print(p())'; "
        "print(subprocess.run([sys.executable, '-c', small], capture_output=True, text=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert 10 * 2**20 < int(done.stdout) < 400 * 2**20
