"""Shards in S3: a server of moto, keys and address by the environment, as in the field.

Run: pip install 'i0t[test-s3]'; python -m pytest tests/standardize/test_s3.py
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from i0t.commands.standardize import main

pytest.importorskip("upath")
s3fs = pytest.importorskip("s3fs", reason="S3 needs pip install 'i0t[test-s3]'")
moto = pytest.importorskip("moto.server", reason="a server of S3 needs pip install 'i0t[test-s3]'")
ONE = ["--jobs", "1"]


@pytest.fixture(scope="module")
def address():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def layout(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """clip-retrieval's folders, here and in the bucket `mine`; everything else is in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()
    rng = np.random.default_rng(0)
    for modality in ("img", "text"):
        (tmp_path / "in" / f"{modality}_emb").mkdir(parents=True)
        for number in range(2):
            path = tmp_path / "in" / f"{modality}_emb" / f"{number}.npy"
            np.save(path, rng.normal(size=(20, 4)).astype(np.float16))
    store = s3fs.S3FileSystem()
    if not store.exists("mine"):
        store.mkdir("mine")
    store.put(str(tmp_path / "in"), "s3://mine/in", recursive=True)
    return tmp_path / "in"


def test_scheduler_urls_of_s3_give_the_files_of_paths(layout, tmp_path, capsys):
    fitted = {name: str(tmp_path / f"{name}.safetensors") for name in ("here", "there", "merged")}
    assert main(["fit", "--folder", "s3://mine/in", "--output", fitted["there"], *ONE]) == 0
    one = ["--images", "s3://mine/in/img_emb/0.npy", "--texts", str(layout / "text_emb" / "0.npy")]
    two = ["--images", str(layout / "img_emb" / "1.npy"), "--texts", "s3://mine/in/text_emb/1.npy"]
    for sides, name in ((one, "here"), (two, "merged")):
        assert main(["fit", *sides, "--output", fitted[name], *ONE]) == 0
    assert main(["merge", fitted["here"], fitted["merged"], "--output", fitted["merged"]]) == 2  # its own input
    assert main(["merge", fitted["here"], fitted["merged"], "--output", str(tmp_path / "m.safetensors")]) == 0
    digests = [line.split(", ")[2] for line in capsys.readouterr().out.splitlines() if "images" in line]
    assert len(digests) == 4 and digests[0] == digests[-1]
    apply = ["apply", fitted["there"], "--folder"]
    assert main([*apply, str(layout), "--output", str(tmp_path / "out"), *ONE]) == 0
    for written in (4, 0):
        assert main([*apply, "s3://mine/in", "--output", "s3://mine/out", *ONE]) == 0
        assert f"{written} shards, {20 * written} vectors written to s3://mine/out" in capsys.readouterr().out
    for name in ("img_emb/0.npy", "text_emb/1.npy"):
        assert s3fs.S3FileSystem().cat(f"mine/out/{name}") == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("environment", "bucket", "message"),
    [
        ({}, "none", "s3://none/in/img_emb/*.npy: no .npy, .safetensors, .parquet file matches"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "mine",
            "cannot be reached (Could not connect to the endpoint URL",
        ),
        ({"AWS_ACCESS_KEY_ID": None}, "mine", "cannot be reached ("),
    ],
)
def test_scheduler_urls_of_s3_in_errors(layout, tmp_path, capsys, monkeypatch, environment, bucket, message):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    sides = ["--images", f"s3://{bucket}/in/img_emb/*.npy", "--texts", str(layout / "text_emb")]
    assert main(["fit", *sides, "--output", str(tmp_path / "s"), *ONE]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_scheduler_urls_of_s3_that_cannot_be_written(layout, tmp_path, capsys):
    fitted = str(tmp_path / "s.safetensors")
    assert main(["fit", "--folder", "s3://mine/in", "--output", fitted, *ONE]) == 0
    assert main(["apply", fitted, "--folder", "s3://mine/in", "--output", "s3://none/out", *ONE]) == 2
    said = capsys.readouterr().err
    assert "s3://none/out/img_emb/0.npy: cannot be written (The specified bucket does not exist)" in said
