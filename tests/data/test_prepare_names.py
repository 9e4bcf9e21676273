"""Names that become one when a data set is prepared are refused, with both; names of any length and letters pass.

Run: python -m pytest tests/data/test_prepare_names.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from owners_files import pictures, put

from i0t.data.prepare.job import Job, place_file
from i0t.errors import I0TError
from i0t.paths import Roots


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A preparation of Flickr30k that may lack images."""
    return Job("flickr", tmp_path / "owners", Roots(tmp_path / "main", tmp_path / "sub"), allow_partial=True)


def test_two_images_of_one_place_or_one_of_two_are_refused(job, tmp_path):
    pictures(tmp_path, ["train/0.jpg", "val/0.jpg"])
    sources, target = [tmp_path / "train/0.jpg", tmp_path / "val/0.jpg"], tmp_path / "out/0.jpg"
    with pytest.raises(I0TError, match=r"train/0\.jpg and .*val/0\.jpg would both be .*out/0\.jpg"):
        job.place([(source, target) for source in sources])
    with pytest.raises(I0TError, match=r"train/0\.jpg would be both .*a\.jpg and .*b\.jpg"):
        job.place([(sources[0], tmp_path / name) for name in ("a.jpg", "b.jpg")])
    assert not target.parent.exists()


def test_lists_with_two_names_of_one_image_are_refused(job, run, tmp_path):
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": f"{row} of {name}"} for row in range(5)]}
        for name in ("a/0.jpg", "b/0.jpg")
    ]
    put(job.folder / "dataset_flickr30k.json", {"images": images})
    pictures(job.folder / "flickr30k-images", ["a/0.jpg", "b/0.jpg"])
    status, _, err = run("flickr30k", "--from", job.folder)
    assert status == 2 and "a/0.jpg and b/0.jpg would be one file" in err
    put(job.folder / "Flickr8k.token.txt", "".join(f"{name}#0\ta dog\n" for name in ("a.jpg", "a.png")))
    put(job.folder / "ExpertAnnotations.txt", "a.jpg\ta.png#0\t1\t2\t3\n")
    status, _, err = run("flickr8k_expert", "--from", job.folder)
    assert status == 2 and "a.jpg and a.png would be one image" in err


def test_another_image_of_the_same_size_is_not_taken_for_the_same(tmp_path):
    for name, content in (("a.jpg", b"one"), ("b.jpg", b"two")):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(I0TError, match=r"b\.jpg: exists, and is not"):
        place_file(tmp_path / "a.jpg", tmp_path / "b.jpg", copy=True)
    (tmp_path / "b.jpg").write_bytes(b"one")
    assert place_file(tmp_path / "a.jpg", tmp_path / "b.jpg", copy=True) is False


def test_long_names_are_missing_and_half_surrogate_pairs_are_written(job, tmp_path):
    pictures(job.folder, ["0.jpg"])
    long = "x" * 300 + ".jpg"
    pairs = [(job.folder / name, tmp_path / "out" / name) for name in ("0.jpg", long)]
    path, content = tmp_path / "list.json", [{"caption": "ein Stern, groß"}, {"caption": "a star \ud83d"}]
    lines = job.place_with_list(pairs, path, content)
    assert "linked: 1, already there: 0, missing: 1" in lines[0]
    assert json.loads(path.read_text(encoding="utf-8")) == content and "groß" in path.read_text(encoding="utf-8")
    assert job.place_with_list(pairs, path, content)[1].endswith("unchanged")
