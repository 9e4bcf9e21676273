"""Digests of records cover all that a metric reads, and texts and names of any kind are written.

Run: python -m pytest tests/evaluation/test_digests.py
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import classification, correlation, retrieval
from evaluation.classification import Classification
from evaluation.correlation import Correlation
from evaluation.options import EvaluationOptions
from evaluation.run import evaluate
from evaluation.table import main as table
from i0t import Embeddings
from i0t.commands.gap import GapOptions, measure, record
from i0t.data.datasets import load_dataset
from i0t.search.evaluate import items_sha256


@pytest.fixture
def paths(configs: Path, sample_roots, tmp_path: Path) -> Path:
    """A copy of the sample, which `--data-dir` and the path files name, to change."""
    shutil.copytree(sample_roots.main.parent, tmp_path / "sample", symlinks=True)
    for name, root in (("root.txt", sample_roots.main), ("subroot.txt", sample_roots.sub)):
        (configs / name).write_text(f"{tmp_path / 'sample' / root.name}\n")
    return tmp_path / "sample"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run a program; returns its record and the record's path."""

    def run(program, dataset: str, *flags: str) -> tuple[dict, str]:
        out = ["--output", str(tmp_path / "out"), "--workers", "0", "--dataset", dataset, *map(str, flags)]
        assert program.main(out if "--embeddings" in flags else ["--model", "tiny", *out]) == 0
        path = capsys.readouterr().out.splitlines()[-1]
        return json.loads(Path(path).read_text()), path

    return run


def written(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def differ(runs: list[tuple[dict, str]], capsys: pytest.CaptureFixture) -> None:
    """The records have other digests and files, and a table says so."""
    assert len({record["data"]["sha256"] for record, _ in runs}) == len({path for _, path in runs}) == len(runs)
    assert table([path for _, path in runs]) == 0
    assert "the rows differ in data sha256" in capsys.readouterr().out


def test_digest_covers_ratings_and_references(paths, run, capsys):
    source = next(paths.rglob("crowdflower_flickr8k.json"))
    runs = [run(correlation, "flickr8k_cf")]

    def other_rating(content: dict) -> None:
        judged = next(iter(content.values()))["human_judgement"][0]
        judged["rating"] = 1 - judged["rating"]

    def other_reference(content: dict) -> None:  # the same texts, of other images
        first, second = list(content.values())[:2]
        first["ground_truth"], second["ground_truth"] = second["ground_truth"], first["ground_truth"]

    for change in (other_rating, other_reference):
        written(source, change)
        runs.append(run(correlation, "flickr8k_cf"))
    differ(runs, capsys)


def test_digest_covers_the_bytes_of_images(paths, run, capsys):
    """Also where size and time of change are the same."""
    image = sorted(paths.rglob("flickr30k-images/*.jpg"))[0]
    state, before = image.stat(), image.read_bytes()
    runs = [run(retrieval, "flickr")]
    place = before.rindex(b"\xff\xd9") - 8
    image.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    runs.append(run(retrieval, "flickr"))
    assert [record["data"]["from_cache"] for record, _ in runs] == [
        {"images": False, "texts": False},
        {"images": False, "texts": True},
    ]
    differ(runs, capsys)
    assert run(retrieval, "flickr")[1] == runs[1][1]  # from the cache, which keeps the digest
    assert runs[0][0]["protocol"]["exif_orientation"] == "ignored"


def test_digest_covers_pairing_and_vectors_of_a_file(paths, run, capsys, tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 4, 8)).astype(np.float32)
    names, texts = [f"{row}.jpg" for row in range(4)], [f"caption {row}" for row in range(4)]
    known = {"model": "mine", "fingerprint": "f"}
    given = Embeddings(*features, np.arange(4), names, texts, metadata=known)
    other = replace(given, image_of_text=np.array([1, 0, 2, 3]))
    moved = replace(given, text_features=-features[1])
    runs = []
    for number, embeddings in enumerate((given, other, moved)):
        file = embeddings.save(tmp_path / f"{number}.safetensors")
        runs.append(run(retrieval, "flickr", "--allow-partial", "--embeddings", file))
    assert len({path for _, path in runs}) == 3
    differ(runs[:2], capsys)
    assert runs[0][0]["data"]["sha256"] == runs[2][0]["data"]["sha256"]  # the same data, other vectors
    assert items_sha256(given) != items_sha256(other)
    assert items_sha256(given) != items_sha256(replace(given, labels=np.zeros(4, int)))
    options = GapOptions()
    digests = {record(measure(one, 0), one, options, 1.0).data["sha256"] for one in (given, other, moved)}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("task", "name", "change"),
    [
        (Classification(), "birdsnap", lambda data: {"labels": data.labels[::-1]}),
        (Classification(), "birdsnap", lambda data: {"templates": ["a {}."]}),
        (Correlation(), "flickr8k_expert", lambda data: {"ratings": list(data.ratings)[::-1]}),
        (Correlation(), "flickr8k_expert", lambda data: {"candidates": list(data.candidates)[::-1]}),
    ],
)
def test_digest_covers_what_a_task_reads_of_its_data_set(sample_roots, task, name, change):
    data = load_dataset(name, sample_roots)
    assert data.content_sha256() == load_dataset(name, sample_roots).content_sha256()
    items = task.items(data)
    texts = [items.prefix + text for text in items.texts]
    rng, shapes = np.random.default_rng(0), [(len(items.images), 8), (len(texts), 8)]
    given = Embeddings(
        *(rng.normal(size=shape).astype(np.float32) for shape in shapes),
        np.array([owners[0] for owners in items.owners]),
        list(items.image_ids),
        texts,
        None if items.labels is None else np.array(items.labels),
        {"dataset": name, "fingerprint": "f"},
    )
    digests = {
        evaluate(given, one, EvaluationOptions(task)).record.data["sha256"]
        for one in (data, replace(data, **change(data)))
    }
    assert len(digests) == 2


def test_half_a_surrogate_pair_is_written_not_lost(paths, run, tmp_path):
    source = next(paths.rglob("Flickr_GOLD.json"))
    written(source, lambda content: content[0]["captions"].__setitem__(0, "a star \ud83d"))
    record, path = run(retrieval, "flickr", "--remove-gap", "i0t_post")
    assert record["metrics"]["t2i_r1"] >= 0
    saved = Embeddings.load(Path(path).with_suffix(".embeddings.safetensors"))
    assert saved.texts[0] == "a star \ud83d"


def test_braces_of_templates_are_text_but_for_one_pair(paths, run):
    folder = next(paths.rglob("birdsnap"))
    (folder / "templates.txt").write_text("a {photo} of a {}, {0}.\n")
    record, _ = run(classification, "birdsnap")
    assert record["protocol"]["templates"] == ["a {photo} of a {}, {0}."]
    data = load_dataset("birdsnap", _roots(folder))
    assert data.items().prompts[0] == [f"a {{photo}} of a {data.class_names[0]}, {{0}}."]


def _roots(folder: Path):
    from i0t.paths import Roots

    return Roots(folder.parents[1], None, is_sample=True)


def test_title_of_the_correlation_table_names_the_score(paths, capsys, tmp_path):
    flags = ["--model", "tiny", "--dataset", "flickr8k_cf", "--workers", "0", "--output", str(tmp_path)]
    for more, score in ([], "i0t_s"), (["--score", "pac_s"], "pac_s"):
        assert correlation.main([*flags, *more]) == 0
        assert f"score={score}" in capsys.readouterr().out.splitlines()[0]


def test_names_that_are_not_utf8_are_read_and_written(paths, run):
    """A Latin-1 file name, as Python reads it from a folder."""
    folder = next(path for path in paths.rglob("birdsnap/test/*") if path.is_dir() and any(path.iterdir()))
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as stream:
            Image.new("RGB", (32, 32)).save(stream, "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    record, path = run(classification, "birdsnap", "--allow-partial", "--remove-gap", "i0t_post")
    saved = Embeddings.load(Path(path).with_suffix(".embeddings.safetensors"))
    assert f"{folder.name}/caf\udce9.png" in saved.image_ids
    assert record["data"]["images"] == len(saved.image_ids)
