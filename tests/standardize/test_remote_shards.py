"""Shards at URLs, in fsspec's memory file system, which a single process can see: as files, for the scheduler as well.

Run: python -m pytest tests/standardize/test_remote_shards.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from i0t import I0TError
from i0t.commands.apply import main as apply_main
from i0t.commands.standardize import main
from i0t.embeddings import load_embeddings
from i0t.files import ensure_folder
from i0t.remote import is_url, place
from i0t.standardize.shard_processes import LEDGER

pytest.importorskip("upath")
ONE = ["--jobs", "1"]


@pytest.fixture
def store():
    """An empty memory file system."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


@pytest.fixture
def layout(tmp_path: Path, store) -> Path:
    """clip-retrieval's folders with two formats, here and in the store's bucket `in`."""
    folder = tmp_path / "in"
    rng = np.random.default_rng(0)
    for modality in ("img", "text"):
        (folder / f"{modality}_emb").mkdir(parents=True)
        for number in range(3):
            np.save(folder / f"{modality}_emb" / f"a_{number}.npy", rng.normal(size=(5, 4)).astype(np.float16))
        save_file({"v": rng.normal(size=(6, 4))}, folder / f"{modality}_emb" / "b.safetensors")
    (folder / "metadata" / "deep").mkdir(parents=True)
    (folder / "metadata" / "deep" / "m.txt").write_text("m")
    store.put(str(folder), "memory://bucket/in", recursive=True)
    return folder


def _without_transform(files: dict[str, bytes]) -> dict[str, bytes]:
    """The order of its header's entries is not fixed."""
    assert "transform.safetensors" in files
    return {name: content for name, content in files.items() if name != "transform.safetensors"}


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and LEDGER not in path.parts)
    return _without_transform({path.relative_to(folder).as_posix(): path.read_bytes() for path in found})


def _stored(store, folder: str) -> dict[str, bytes]:
    found = (name for name in store.find(folder) if LEDGER not in name)
    return _without_transform({name[len(folder) + 2 :]: store.cat(name) for name in found})


def test_scheduler_urls_give_the_files_of_paths(layout, tmp_path, store, capsys):
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    assert main(["fit", "--folder", str(layout), "--output", str(here), *ONE]) == 0
    assert main(["fit", "--folder", "memory://bucket/in", "--output", str(there), *ONE]) == 0
    one, two = load_file(here), load_file(there)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert main(["apply", str(here), "--folder", str(layout), "--output", str(tmp_path / "out"), *ONE]) == 0
    moved = ["apply", str(here), "--folder", "memory://bucket/in", "--output", "memory://bucket/out", *ONE]
    assert main(moved) == 0
    assert _stored(store, "bucket/out") == _files(tmp_path / "out")
    assert "metadata/deep/m.txt" in _files(tmp_path / "out")
    capsys.readouterr()
    store.rm("memory://bucket/out/img_emb/a_1.npy")
    store.pipe("memory://bucket/out/img_emb/a_2.npy", b"cut")
    assert main(moved) == 0
    assert "2 shards, 10 vectors written to memory://bucket/out; 6 were there already" in capsys.readouterr().out
    assert _stored(store, "bucket/out") == _files(tmp_path / "out")


def test_scheduler_urls_by_pattern_in_order_and_from_here_to_there(layout, tmp_path, store):
    sides = ["--images", "memory://bucket/in/img_emb/a_?.npy", "--texts", str(layout / "text_emb" / "*.npy")]
    assert main(["fit", *sides, "--output", str(tmp_path / "s.safetensors"), *ONE]) == 0
    fitted = ["--fit-on", str(tmp_path / "s.safetensors"), *ONE]
    assert apply_main([*sides, *fitted, "--output", str(tmp_path / "out")]) == 0
    assert apply_main([*sides, *fitted, "--output", "memory://bucket/out/"]) == 0
    assert _stored(store, "bucket/out") == _files(tmp_path / "out")
    assert str(place(f"file://{tmp_path}/x")) == f"{tmp_path}/x" and isinstance(place("file:///x"), Path)


def test_scheduler_urls_in_errors(layout, tmp_path, store, capsys):
    bad = np.ones((4, 4))
    bad[2, 1] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    store.put(str(tmp_path / "bad.npy"), "memory://bucket/bad/bad.npy")
    fit = ["fit", "--texts", str(layout / "text_emb"), "--output", str(tmp_path / "s"), *ONE, "--images"]
    assert main([*fit, "memory://bucket/bad"]) == 2
    assert "memory://bucket/bad/bad.npy: image_features: row 2 holds NaN" in capsys.readouterr().err.replace(
        "///", "//"
    )
    store.pipe("memory://bucket/bad/bad.npy", (tmp_path / "bad.npy").read_bytes()[:-9])
    assert main([*fit, "memory://bucket/bad/*.npy"]) == 2
    said = capsys.readouterr().err.replace("///", "//")
    assert "memory://bucket/bad/bad.npy: not a .npy array" in said and "/i0t-" not in said and said.count("\n") == 1
    assert main([*fit, "memory://bucket/none/*.npy"]) == 2
    assert "memory://bucket/none/*.npy: no .npy," in capsys.readouterr().err
    assert main([*fit, "nowhere://bucket/*.npy"]) == 2
    assert "nowhere://bucket/*.npy: " in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert main([*fit, str(layout / "img_emb"), "--output", "memory://bucket/s.safetensors"]) == 2
    assert "is a URL. Give --output a file on this machine" in capsys.readouterr().err
    assert main(["apply", str(layout), "--folder", "memory://bucket/in", "--output", "memory://bucket/in/", *ONE]) == 2
    assert "would overwrite its own source" in capsys.readouterr().err
    npy = str(layout / "img_emb" / "a_0.npy")
    assert apply_main([npy, npy, "--fit-on", npy, npy, "--output", "memory://bucket/out"]) == 2
    assert "is a URL, where only shards can be written" in capsys.readouterr().err
    with pytest.raises(I0TError, match=r"memory:/+bucket: is a URL\. Give a folder on this machine"):
        ensure_folder("memory://bucket")
    assert not list(Path().glob("memory:*"))


@pytest.mark.parametrize("call", ["info", "ls", "get_file", "modified"])
def test_scheduler_urls_that_refuse_are_one_line(layout, tmp_path, store, monkeypatch, capsys, call):
    """An error of the store's own library at any of its calls; metadata and resuming reach other calls than shards."""
    fitted = str(tmp_path / "s.safetensors")
    runs = [
        ["fit", "--folder", "memory://bucket/in", "--output", fitted, *ONE],
        ["apply", fitted, "--folder", "memory://bucket/in", "--output", "memory://bucket/out", *ONE],
    ]
    assert [main(run) for run in runs] == [0, 0]

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr(type(store), call, refuse)
    capsys.readouterr()
    for run in runs if call != "modified" else runs[1:]:
        if call == "get_file" and run is runs[1]:
            store.rm("bucket/out/img_emb/a_1.npy")
        assert main(run) == 2
        said = capsys.readouterr().err
        assert "cannot be reached (Unable to locate credentials)" in said and said.count("\n") == 1


def test_a_url_for_a_program_that_reads_files_is_refused():
    with pytest.raises(I0TError, match=r"^s3://b/x\.npy: is a URL, where only shards are read"):
        load_embeddings(["images.npy", "s3://b/x.npy"])


def test_scheduler_urls_without_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(I0TError, match=r"^memory://x: cannot be reached \(.*\)\. pip install 'i0t\[cluster\]'\.$"):
        place("memory://x")


@pytest.mark.parametrize(("name", "expected"), [("s3://b/x", True), ("s3:/b", True), ("C:/x", False), ("a/b:c", False)])
def test_scheduler_urls_are_told_from_paths(name, expected):
    assert is_url(name) is expected
