"""The contract of every registered data set; a new one needs only an entry and a reader.

Run: python -m pytest tests/data/test_dataset_registry.py
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from owners_files import cifar_folder, coco_name, coco_style, flickr_folder, pictures, put

from evaluation.task import TASKS, task_class
from i0t import I0TError
from i0t.data.check import main as check
from i0t.data.datasets import DATASETS, USABLE, census, datasets_of, is_present, load_dataset, shown, unit_of
from i0t.data.entries import Count
from i0t.data.items import Items, open_image
from i0t.data.prepare.__main__ import main as prepare
from i0t.data.prepare.__main__ import parse as prepare_options
from i0t.paths import Roots

EVERY = pytest.mark.parametrize("name", DATASETS)
PROGRAMS = {task_class(name).kind: sys.modules[task_class(name).__module__] for name in TASKS}


@pytest.fixture
def there(name: str, sample_roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roots:
    """Roots that hold the data set: the sample's, or prepared from generated files of its owners' forms."""
    monkeypatch.setattr("i0t.paths.CACHE_ROOT", tmp_path / "cache")
    if DATASETS[name].sample:
        return sample_roots
    source, root = tmp_path / "owners", tmp_path / "root"
    root.mkdir()
    cifar_folder(source, monkeypatch)
    flickr_folder(source, {"1.jpg": "val", "2.jpg": "val", "3.jpg": "test"})
    names = {4: coco_name(4, "val2017"), 2: coco_name(2, "val2017")}
    put(source / "captions_val2017.json", coco_style(names))
    pictures(source / "val2017", names.values())
    flags = DATASETS[name].preparation.command.replace("FOLDER", str(source)).split()[2:]
    assert prepare([*flags, "--data-dir", str(root), "--data-dir-sub", str(root)]) == 1  # done, and incomplete
    return Roots(root, root)


@EVERY
def test_an_absent_data_set_is_reported_by_every_program(name, tmp_path, monkeypatch):
    monkeypatch.setattr("i0t.paths.CACHE_ROOT", tmp_path / "cache")
    entry = DATASETS[name]
    for roots in (Roots(tmp_path, tmp_path), Roots(None, None)):
        assert not is_present(name, roots)
        assert name not in datasets_of(entry.kind, roots)
        found = census(name, roots)
        assert (found.state, found.images, found.texts, found.dataset) == ("absent", 0, 0, None)
        assert "not there" in found.problem or "is not set" in found.problem
        with pytest.raises(I0TError):
            load_dataset(name, roots)


@EVERY
def test_a_present_data_set_carries_what_records_and_encoders_need(name, there):
    entry, data = DATASETS[name], load_dataset(name, there, allow_partial=True)
    assert is_present(name, there)
    assert name in datasets_of(entry.kind) and name in datasets_of(entry.kind, replace(there, is_sample=False))
    assert (data.name, data.split, data.source) == (name, entry.split, there.below(entry.root, entry.file))
    assert data.split and data.source.exists()
    assert len(data.images) == len(data.image_ids) == len(set(data.image_ids)) > 0
    assert list(data.missing) == []
    assert open_image(data.images[0]).size[0] > 1
    metadata = data.metadata()
    assert {key: metadata[key] for key in ("dataset", "part", "source")} == {
        "dataset": name,
        "part": entry.split,
        "source": str(data.source),
    }
    assert json.loads(json.dumps(metadata)) == metadata


@EVERY
def test_completeness_is_what_the_census_counts(name, there):
    found = census(name, there)
    unit, sample = unit_of(DATASETS[name]), DATASETS[name].sample is not None
    assert found.dataset.completeness == {
        "state": "complete" if sample else "partial",
        "images": len(found.dataset.images),
        "images_expected": shown(found.expected.images),
        unit: found.dataset.count_texts(DATASETS[name].texts_per_image),
        f"{unit}_expected": shown(found.expected.texts),
        "built_in_sample": sample,
        **({} if sample else {"why": found.problem}),
    }
    if sample:
        assert load_dataset(name, there).completeness == found.dataset.completeness
    else:
        with pytest.raises(I0TError, match=f"{name} is not complete: .*--allow-partial"):
            load_dataset(name, there)


@EVERY
def test_items_cover_every_image_and_every_text(name, there):
    data = load_dataset(name, there, allow_partial=True)
    items = data.items()
    assert isinstance(items, Items)
    assert list(items.image_ids) == list(data.image_ids)
    assert all(items.texts)
    assert items.metadata["completeness"] == data.completeness
    owned = {owner for owners in items.owners for owner in owners if owner >= 0}
    if DATASETS[name].kind == "classes":
        assert owned == set()
        assert len(items.prompts) == len(items.texts) == data.count_texts()
        assert [items.texts[label] in items.prompts[label][0] for label in items.labels] == [True] * len(items.labels)
    else:
        assert owned == set(range(len(items.images)))


@EVERY
def test_it_says_who_owns_it_and_how_it_is_prepared(name, tmp_path):
    preparation = DATASETS[name].preparation
    assert preparation.needs and preparation.pages
    assert callable(preparation.load())
    words = preparation.command.replace("FOLDER", str(tmp_path)).split()
    assert words[:2] == ["bash", "scripts/prepare_data.sh"]
    job, function = prepare_options([*words[2:], "--data-dir", str(tmp_path), "--data-dir-sub", str(tmp_path)])
    assert (job.dataset, function) == (name, preparation.load())


@pytest.mark.parametrize("name", [name for name, entry in DATASETS.items() if entry.kind in PROGRAMS])
def test_its_evaluation_runs_and_states_its_part(name, there, configs, tmp_path):
    """All places know the same names: coco_val2017 and flickr_val once ended in a KeyError."""
    flags = ["--model", "tiny", "--dataset", name, "--workers", "0", "--output", str(tmp_path / "out")]
    roots = ["--data-dir", str(there.main), "--data-dir-sub", str(there.sub)]
    assert PROGRAMS[DATASETS[name].kind].main([*flags, *roots, "--allow-partial"]) == 0
    record = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert record["protocol"]["split"] == DATASETS[name].split
    data = record["data"]
    assert data["built_in_sample"] == data["completeness"]["built_in_sample"] == (DATASETS[name].sample is not None)


def test_texts_of_rated_captions_are_distinct_with_references_first(sample_roots):
    """Their order decides the batches, and so the last bits of the features."""
    data = load_dataset("flickr8k_expert", sample_roots)
    items = data.items("A photo depicts ")
    assert items.prefix == "A photo depicts "
    references = [text for texts in data.references for text in texts]
    assert items.texts == list(dict.fromkeys([*references, *data.candidates]))
    first = {text: row for row, texts in reversed([*enumerate(data.references)]) for text in texts}
    assert [owners[0] for owners in items.owners] == [first.get(text, -1) for text in items.texts]
    assert {text for text, owners in zip(items.texts, items.owners, strict=True) if -1 in owners} == set(
        data.candidates
    )


def test_some_long_captions_with_a_prefix(sample_roots):
    data = load_dataset("sharegpt4v", sample_roots)
    items = data.items([5, 2], prefix="A photo depicts ")
    assert (items.texts, items.owners) == ([data.captions[5], data.captions[2]], [(0,), (1,)])
    assert items.images == [data.images[5], data.images[2]]


def test_raw_means_leave_the_prompts_as_they_are_encoded(sample_roots):
    data = load_dataset("birdsnap", sample_roots)
    assert data.items().normalize_prompts and not data.items("raw").normalize_prompts
    assert data.items("raw").metadata["prompt_mean"] == "raw"


READER = '''
from i0t.data.captions import CaptionSet


def read_tabs(entry, roots):
    """Lines of picture<TAB>caption."""
    rows = [line.split("\\t") for line in roots.below(entry.root, entry.file).read_text().splitlines()]
    return CaptionSet(
        name=entry.name,
        split=entry.split,
        source=roots.below(entry.root, entry.file),
        images=[roots.below(entry.root, entry.pictures) / name for name, _ in rows],
        image_ids=[name for name, _ in rows],
        captions=[[caption] for _, caption in rows],
    )
'''


def test_a_new_data_set_is_one_entry_and_one_reader(tmp_path, monkeypatch, capsys):
    put(tmp_path / "code" / "my_tabs.py", READER)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    entry = replace(
        DATASETS["coco"],
        name="mine",
        reader="my_tabs:read_tabs",
        file="mine/captions.txt",
        pictures="mine/pictures",
        images=Count(2),
        texts=Count(2),
        sample=None,
    )
    monkeypatch.setitem(DATASETS, "mine", entry)
    put(tmp_path / "data" / entry.file, "a.jpg\ta dog\nb.jpg\ta cat\n")
    pictures(tmp_path / "data" / entry.pictures, ["a.jpg", "b.jpg"])
    roots = Roots(None, tmp_path / "data")
    assert "mine" in datasets_of("captions", roots)
    assert load_dataset("mine", roots).items().texts == ["a dog", "a cat"]
    assert census("mine", roots).state in USABLE
    assert check(["--dataset", "mine", "--data-dir-sub", str(roots.sub), "--workers", "0"]) == 0
    assert "0 of 2" in capsys.readouterr().out
