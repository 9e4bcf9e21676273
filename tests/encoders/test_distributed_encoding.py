"""Two processes of `accelerate launch` give the result of one: shards in order, one record, one output.

Run: python -m pytest tests/encoders/test_distributed_encoding.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import retrieval
from i0t import Embeddings, I0TError, load_encoder, processes
from i0t.cli import program
from i0t.encoders import EncodeOptions
from i0t.encoders.encode import encode_pictures, encode_texts
from i0t.paths import REPO, say

# 20 images and texts in batches of 3: seven of each, the last one short, four for one process, three for the other.
FLAGS = ["--model", "tiny", "--dataset", "flickr", "--batch-size", "3", "--workers", "0", "--device", "cpu"]
# What users write as ACCELERATE=configs/accelerate/cpu_2proc.yaml bash scripts/evaluate_retrieval.sh.
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", str(REPO / "configs" / "accelerate" / "cpu_2proc.yaml")]
LAUNCH += ["--num_cpu_threads_per_process", "1", "-m"]


def launch(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    """Two processes of the retrieval program, writing to `folder`."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    environment["PYTHONPATH"] = str(REPO)
    command = [sys.executable, *LAUNCH, "evaluation.retrieval", *FLAGS, "--output", str(folder), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def only(folder: Path) -> tuple[dict, Embeddings]:
    """The one record of a folder and the embeddings beside it."""
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text()), Embeddings.load(path.with_suffix(".embeddings.safetensors"))


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one(configs, tmp_path):
    """Each batch is encoded by one process, so even the last bits agree (with the same number of threads)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        removal = ["--remove-gap", "i0t_post", "--fit-on", "train", "--fit-samples", "10"]
        assert retrieval.main([*FLAGS, *removal, "--no-cache", "--output", str(tmp_path / "one")]) == 0
    finally:
        torch.set_num_threads(threads)
    done = launch(tmp_path / "two", *removal)
    assert done.returncode == 0, done.stderr
    (one, alone), (two, shared) = only(tmp_path / "one"), only(tmp_path / "two")
    assert (shared.image_features == alone.image_features).all()
    assert (shared.text_features == alone.text_features).all()
    assert shared.image_ids == alone.image_ids
    assert shared.texts == alone.texts
    assert two["metrics"] == one["metrics"]
    assert two["protocol"] == one["protocol"]  # the fingerprint of the training means is in it
    assert two["data"]["sha256"] == one["data"]["sha256"]
    # The main process alone speaks, writes and keeps.
    assert done.stdout.count("remove_gap=i0t_post") == 1
    assert done.stderr.count("retrieval: flickr with tiny") == 1
    assert len(list((tmp_path / "two").iterdir())) == 3
    assert len(list(Path(os.environ["I0T_CACHE"]).iterdir())) == 4  # images and texts, evaluated and for the means

    # What two processes kept, one finds, bit for bit.
    assert retrieval.main([*FLAGS, *removal, "--output", str(tmp_path / "again")]) == 0
    again, found = only(tmp_path / "again")
    assert again["data"]["from_cache"] == {"images": True, "texts": True}
    assert (found.image_features == alone.image_features).all()


def test_shares_join_in_order_around_unreadable_images(tmp_path, in_shares):
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        Image.new("RGB", (64, 64), (20 * number, 0, 255 - 20 * number)).save(path)
    for number in (1, 4, 5, 10):  # the third batch of two holds none that can be read
        paths[number].write_bytes(b"no image")
    encoder = load_encoder("tiny")
    alone = EncodeOptions(batch_size=2, skip_unreadable=True, cache=False, progress=False)
    whole = encode_pictures(encoder, paths, alone)
    assert whole.kept == [0, 2, 3, 6, 7, 8, 9]
    shared = in_shares(lambda: encode_pictures(encoder, paths, replace(alone, share=True)))
    assert np.array_equal(shared.features, whole.features)
    assert (shared.kept, shared.unreadable) == (whole.kept, whole.unreadable)


def test_shares_of_texts_join_in_order(in_shares):
    texts = [f"{'very ' * (number % 7)}small star {number}" for number in range(20)] + ["small star 0"]
    encoder = load_encoder("tiny")
    for batch_size in (3, 16):  # 16: two batches for three processes
        alone = EncodeOptions(batch_size=batch_size, cache=False, progress=False)
        whole = encode_texts(encoder, texts, alone)
        shared = in_shares(lambda alone=alone: encode_texts(encoder, texts, replace(alone, share=True)))
        assert np.array_equal(shared.features, whole.features)


def test_a_plain_process_is_alone():
    assert (processes.rank(), processes.count(), processes.is_main()) == (0, 1, True)
    assert processes.gather([1, 2]) == [1, 2]
    assert processes.from_main("x") == "x"
    assert processes.join(None) is None
    with processes.first_here():
        pass


def test_one_voice_but_every_error(monkeypatch, capsys):
    @program
    def fails(argv=None) -> int:
        say("working")
        raise I0TError("no data here")

    for rank, expected in (("0", "working\nerror: no data here\n"), ("1", "error (process 1): no data here\n")):
        monkeypatch.setenv("RANK", rank)
        assert fails() == 2
        assert capsys.readouterr().err == expected
