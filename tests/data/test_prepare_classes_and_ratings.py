"""Classes and ratings prepared from generated files of their owners' forms.

Run: python -m pytest tests/data/test_prepare_classes_and_ratings.py
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from owners_files import (
    cifar_folder,
    files_below,
    flickr8k_texts,
    pictures,
    put,
    read,
)

from i0t.data.class_sets import read_class_names
from i0t.data.prepare.__main__ import main as prepare

# --- CIFAR-100 -------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a tiny cifar-100-python; reading goes below tmp_path/cache."""
    monkeypatch.setattr("i0t.paths.CACHE_ROOT", tmp_path / "cache")
    return cifar_folder(tmp_path / "downloads", monkeypatch)


def test_cifar_is_linked_from_its_folder_or_unpacked_from_its_archive(cifar, tmp_path, run):
    target = tmp_path / "cache" / "cifar-100-python"
    status, out, _ = run("cifar100", "--from", cifar.parent)
    assert status == 1
    assert f"{target}: linked to {cifar}" in out
    assert "cifar100: 3 of 10000 images, 100 of 100 classes" in out
    assert "already there" in run("cifar100", "--from", cifar.parent)[1]
    shutil.rmtree(cifar)
    assert "unpacked" in run("cifar100", "--from", cifar.parent)[1]  # over the link that leads nowhere now
    assert not target.is_symlink()
    assert len(read("cifar100", tmp_path).images) == 3


def test_damaged_cifar_is_refused(cifar, tmp_path, run):
    shutil.rmtree(cifar)
    archive = cifar.with_name("cifar-100-python.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-20])
    status, _, err = run("cifar100", "--from", archive.parent)
    assert status == 2
    assert f"{archive}: is not CIFAR-100 as published" in err
    assert not (tmp_path / "cache").exists()
    archive.unlink()
    status, _, err = run("cifar100", "--from", archive.parent)
    assert status == 2
    assert "--download" in err


def test_cifar_is_downloaded_only_when_asked(cifar, tmp_path, run, monkeypatch):
    from torchvision.datasets import CIFAR100

    calls = []

    def download(self) -> None:
        calls.append(self.root)
        if not (Path(self.root) / "cifar-100-python").exists():
            shutil.copytree(cifar, Path(self.root) / "cifar-100-python")

    monkeypatch.setattr(CIFAR100, "download", download)
    (tmp_path / "empty").mkdir()
    assert run("cifar100", "--from", tmp_path / "empty")[0] == 2
    assert calls == []
    _, out, _ = run("cifar100", "--download")
    assert calls == [str(tmp_path / "cache")]
    assert "downloaded" in out
    status, _, err = run("flickr30k", "--download")
    assert status == 2
    assert "only cifar100 can be downloaded" in err


# --- Birdsnap --------------------------------------------------------------------------------


def test_birdsnap_has_openais_500_names():
    names = read_class_names("birdsnap")
    assert len(names) == len(set(names)) == 500
    assert names == sorted(names)
    assert {"Acadian Flycatcher", "Allens Hummingbird", "Zone tailed Hawk"} < set(names)


def test_birdsnap_takes_its_owners_list_and_makes_every_class(tmp_path, roots, run):
    source = tmp_path / "birdsnap"
    listed = ["Coopers_Hawk/0561.jpg", "Coopers_Hawk/0629.jpg", "Anhinga/113028.jpg", "Limpkin/116081.jpg"]
    put(source / "test_images.txt", "path\n" + "\n".join(listed) + "\n")
    pictures(source / "download" / "images", [*listed[:3], "Coopers_Hawk/0001.jpg"])  # 0001 is for training
    status, out, _ = run("birdsnap", "--from", source)
    assert status == 1
    assert "500 class folders, 498 of them without images" in out
    assert "1 of the 4 listed are not there" in out
    assert "birdsnap: 3 of 2443 images, 500 of 500 classes: partial" in out
    data = read("birdsnap", roots.main)
    assert data.class_names == read_class_names("birdsnap")
    assert sorted(data.image_ids) == sorted(listed[:3])
    assert [data.class_names[label] for label in data.labels] == ["Anhinga", "Coopers Hawk", "Coopers Hawk"]
    assert "images linked: 0, already there: 3" in run("birdsnap", "--from", source)[1]


def test_birdsnap_class_folders_are_matched_by_their_letters(tmp_path, roots, run):
    source = tmp_path / "copy"
    pictures(source / "test", ["Allen's Hummingbird/1.jpg", "american-three-toed-woodpecker/2.png"])
    run("birdsnap", "--from", source)
    data = read("birdsnap", roots.main)
    assert data.image_ids == ["Allens_Hummingbird/1.jpg", "American_Three_toed_Woodpecker/2.png"]
    assert [data.class_names[label] for label in data.labels] == [
        "Allens Hummingbird",
        "American Three toed Woodpecker",
    ]

    pictures(source / "test", [".ipynb_checkpoints/1.jpg", "Allen's Hummingbird/._1.jpg"])
    assert "images linked: 0, already there: 2" in run("birdsnap", "--from", source)[1]
    pictures(source / "test", ["Allens_Hummingbird/3.jpg"])
    status, _, err = run("birdsnap", "--from", source)
    assert status == 2
    assert "Allens_Hummingbird: the same class as" in err
    pictures(source / "test", ["0_Dodo/3.jpg"])
    assert "0_Dodo: not one of Birdsnap's 500 classes" in run("birdsnap", "--from", source)[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Coopers_Hawk/0561.jpg\n", 'expected the header "path"'),
        ("path\n\nDodo/1.jpg\n", "test_images.txt:3: Dodo/1.jpg"),
    ],
)
def test_birdsnap_list_of_another_form_is_refused(tmp_path, run, text, message):
    put(tmp_path / "birdsnap" / "test_images.txt", text)
    (tmp_path / "birdsnap" / "images").mkdir()
    status, _, err = run("birdsnap", "--from", tmp_path / "birdsnap")
    assert status == 2
    assert message in err


# --- Flickr8k --------------------------------------------------------------------------------


def test_flickr8k_text_files_become_what_the_json_files_hold(tmp_path, roots, run):
    source = flickr8k_texts(tmp_path / "flickr8k")
    assert "ExpertAnnotations.txt: 6 ratings of 2 images" in run("flickr8k_expert", "--from", source)[1]
    expert = read("flickr8k_expert", roots.main)
    assert [path.name for path in expert.images] == ["100_aa.jpg", "200_bb.jpg"]
    assert expert.candidates == ["A dog 1 of 200_bb.jpg ."] * 3 + ["A dog 0 of 300_cc.jpg ."] * 3
    assert expert.ratings == [1, 1, 2, 2, 3, 1]  # the row whose candidate is a reference is left out
    assert expert.references[0] == ["A dog 0 of 100_aa.jpg .", "A dog 1 of 100_aa.jpg ."]

    assert "CrowdFlowerAnnotations.txt: 3 ratings of 2 images" in run("flickr8k_cf", "--from", source)[1]
    crowd = read("flickr8k_cf", roots.main)
    assert crowd.ratings == [1, 0.333333, 0]
    assert crowd.references[0] == ["A dog 0 of 100_aa.jpg ."]  # less the one that is a candidate
    assert crowd.candidates[0] == "A dog 1 of 100_aa.jpg ."

    again = Path(shutil.copytree(roots.main / "pacscore_datasets" / "flickr8k", tmp_path / "pacscore"))
    other = tmp_path / "other"
    other.mkdir()
    for name in ("flickr8k_expert", "flickr8k_cf"):  # pacscore's files give the same
        status = prepare([name, "--from", str(again), "--data-dir", str(other), "--allow-partial"])
        assert status == 0
    assert read("flickr8k_expert", other).ratings == expert.ratings


def test_byte_order_marks_of_the_owners_lists_are_no_content(tmp_path, roots, run):
    source = flickr8k_texts(tmp_path / "flickr8k")
    run("flickr8k_expert", "--from", source)
    references = read("flickr8k_expert", roots.main).references
    for path in source.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "unchanged" in run("flickr8k_expert", "--from", source)[1]
    assert read("flickr8k_expert", roots.main).references == references


def test_a_caption_id_with_two_captions_is_refused_by_line(tmp_path, roots, run):
    source = flickr8k_texts(tmp_path / "flickr8k")
    tokens = source / "Flickr8k.token.txt"
    first = tokens.read_text().split("\t")[0]
    tokens.write_text(f"{tokens.read_text()}{first}\tAnother dog .\n")
    status, _, err = run("flickr8k_expert", "--from", source)
    assert status == 2
    assert f"{first} has two captions" in err


def test_pacscore_file_with_nan_keeps_it(tmp_path, roots, run):
    rated = [{"caption": "a dog", "rating": math.nan}, {"caption": "a cat", "rating": 0.5}]
    entry = {"image_path": "Flicker8k_Dataset/1.jpg", "ground_truth": ["a hound"], "human_judgement": rated}
    put(tmp_path / "pac" / "crowdflower_flickr8k.json", {"1.jpg": entry})
    pictures(tmp_path / "pac" / "images", ["1.jpg"])
    for state in ("written", "unchanged"):
        assert state in run("flickr8k_cf", "--from", tmp_path / "pac")[1]
    assert read("flickr8k_cf", roots.main).n_dropped == 1


def pacscore(references: list[str], rating: object) -> str:
    """A file in the pacscore form with one rating of one image."""
    rated = [{"caption": "a cat", "rating": rating}]
    return json.dumps({"7": {"image_path": "100_aa.jpg", "ground_truth": references, "human_judgement": rated}})


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ExpertAnnotations.txt", "100_aa.jpg\t200_bb.jpg#1\t1\t1\n", "ExpertAnnotations.txt:1: 4 fields, expected 5"),
        ("ExpertAnnotations.txt", "\n100_aa.jpg\t999_zz.jpg#1\t1\t1\t1\n", ":2: 100_aa.jpg, 999_zz.jpg#1: not in"),
        ("ExpertAnnotations.txt", "100_aa.jpg\t200_bb.jpg#1\t1\t1\tx\n", ":1: could not convert"),
        ("ExpertAnnotations.txt", "100_aa.jpg\t200_bb.jpg#1\t1\t1\t5\n", "a rating of 5, the scale is 1 to 4"),
        ("flickr8k.json", "[]", "flickr8k.json: expected the pacscore form"),
        ("flickr8k.json", '{"7": {"image_path": "7.jpg"}}', 'flickr8k.json: expected the pacscore form: "7": has no'),
        (
            "flickr8k.json",
            '{"7": {"image_path": "7.jpg", "human_judgement": []}}',
            'expected the pacscore form: "7": has no "g',
        ),
        ("flickr8k.json", pacscore([], 1), '7: 100_aa.jpg has no references ("ground_truth")'),
        ("flickr8k.json", pacscore(["a dog"], math.nan), "flickr8k.json: holds no rating that is a number"),
        ("flickr8k.json", pacscore(["a dog"], "3"), '"7": "human_judgement"[0]: "rating" is "3"'),
    ],
)
def test_ratings_of_another_form_are_refused_by_row(tmp_path, roots, run, file, text, message):
    source = flickr8k_texts(tmp_path / "flickr8k")
    put(source / file, text)
    status, _, err = run("flickr8k_expert", "--from", source)
    assert status == 2
    assert message in err
    assert files_below(roots.main) == []
