"""The counts table, the check program, and evaluations that refuse incomplete data sets.

Run: python -m pytest tests/data/test_check_data.py
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from owners_files import five, list_file, long_record, picture_folder, put, read

from evaluation import classification, correlation, retrieval
from i0t import I0TError
from i0t.data.check import main as check
from i0t.data.class_sets import bird_names, read_class_names
from i0t.data.datasets import DATASETS, census, sample_size, shown, within
from i0t.data.entries import Count
from i0t.paths import Roots

SAMPLE_SETS = {name for name, entry in DATASETS.items() if entry.sample}


@pytest.fixture
def copy(sample_roots: Roots, tmp_path: Path) -> Roots:
    """A copy of the small sample, with its marker, that a test may damage."""
    root = shutil.copytree(sample_roots.data_dir.parent, tmp_path / "sample")
    return Roots(root / "data_dir", root / "data_dir_sub")


@pytest.fixture
def run(copy: Roots, capsys, monkeypatch, tmp_path):
    """Run the check on the copy; returns (exit status, standard output)."""
    monkeypatch.setattr("i0t.paths.CACHE_ROOT", tmp_path / "no-cifar")

    def call(*flags: str) -> tuple[int, str]:
        status = check([*flags, "--data-dir", str(copy.main), "--data-dir-sub", str(copy.sub), "--workers", "0"])
        return status, capsys.readouterr().out

    return call


def no_longer_a_sample(roots: Roots) -> None:
    (roots.data_dir.parent / "sample.json").unlink()


def flickr_pictures(roots: Roots) -> list[Path]:
    return sorted(picture_folder("flickr", roots.data_dir_sub).iterdir())


# --- the table of counts ----------------------------------------------------------------------


def test_counts_are_numbers_or_ranges():
    assert [number for number in range(10) if within(number, Count(5))] == [5]
    assert [number for number in range(10) if within(number, Count(3, 5))] == [3, 4, 5]
    assert (shown(Count(5)), shown(Count(3, 5))) == ("5", "3-5")


def test_a_sample_is_held_against_its_own_marker(copy, sample_roots):
    size = json.loads((sample_roots.data_dir.parent / "sample.json").read_text())["size"]
    assert sample_size(copy.data_dir) == size
    found = census("flickr", copy)
    assert found.built_in_sample
    assert (found.expected.images, found.expected.texts) == (Count(size["flickr"]), Count(5 * size["flickr"]))
    for name in SAMPLE_SETS:
        assert census(name, copy).state == "complete", name

    no_longer_a_sample(copy)
    assert (census("flickr", copy).expected, census("flickr", copy).built_in_sample) == (DATASETS["flickr"], False)
    assert {census(name, copy).state for name in SAMPLE_SETS} == {"partial"}


def test_another_files_marker_makes_no_sample(copy):
    marker = copy.data_dir.parent / "sample.json"
    marker.write_text('["of something else"]')
    assert census("flickr", copy).expected == DATASETS["flickr"]
    marker.write_text('{"size": {"pictures": 3}, "judgments": "constructed, not human"}')
    with pytest.raises(I0TError, match=r"sample\.json: not the marker of this version's sample"):
        census("flickr", copy)


# --- the census on full counts ----------------------------------------------------------------


def test_flickr_is_complete_at_a_thousand_images_and_partial_below(tmp_path):
    roots, names = Roots(None, tmp_path), [f"{number}.jpg" for number in range(1000)]
    folder = picture_folder("flickr", tmp_path)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    gold = [{"image_id": name, "captions": five(name, 6)} for name in names]  # a sixth caption is no matter
    path = put(list_file("flickr", tmp_path), gold)
    found = census("flickr", roots)
    assert (found.state, found.images, found.texts, found.problem) == ("complete", 1000, 5000, "")

    put(path, gold[:-1])
    found = census("flickr", roots)
    assert (found.state, found.problem) == ("partial", "999 of 1000 images, 4995 of 5000 captions")
    put(path, [*gold[:-1], {**gold[-1], "captions": ["one"]}])
    assert census("flickr", roots).problem == "1000 of 1000 images, 4996 of 5000 captions"
    put(path, gold)
    (folder / "7.jpg").unlink()
    found = census("flickr", roots)
    assert (found.state, found.images) == ("partial", 999)
    assert f"1 of the 1000 images it lists are missing, first {folder / '7.jpg'}" in found.problem
    put(path, "[1, 2")
    assert census("flickr", roots).state == "broken"
    path.unlink()
    assert census("flickr", roots).state == "absent"
    assert census("birdsnap", roots).problem == "<data_dir> is not set"


@pytest.mark.parametrize(
    ("pictures", "classes", "state"),
    [
        (1854, 500, "partial"),
        (1855, 500, "known shortfall"),
        (1857, 500, "known shortfall"),
        (1858, 500, "partial"),
        (2443, 500, "complete"),
        (1855, 499, "partial"),  # an empty class folder was lost: fewer classes are an easier test
    ],
)
def test_birdsnaps_known_shortfall_is_no_partial_set(tmp_path, pictures, classes, state):
    folders = [
        list_file("birdsnap", tmp_path) / name.replace(" ", "_") for name in read_class_names("birdsnap")[:classes]
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in range(pictures):
        (folders[number % (classes - 20)] / f"{number}.jpg").touch()
    found = census("birdsnap", Roots(tmp_path, None))
    assert (found.state, found.images, found.texts) == (state, pictures, classes)
    assert ("gone from Flickr" in found.problem) == (state == "known shortfall")


def test_bird_names_are_openais_where_the_folder_matches():
    folders = ["Allen's_Hummingbird", "BLACK-AND-WHITE WARBLER", "Red_Circle"]
    assert bird_names(folders) == ["Allens Hummingbird", "Black and white Warbler", "Red Circle"]


def test_records_are_compared_with_the_folders(tmp_path):
    images = [f"coco/train2017/{number}.jpg" for number in range(5)] + ["sam/images/1.jpg", "llava/x/00453/2.jpg"]
    put(list_file("sharegpt4v", tmp_path), [long_record(image) for image in images])
    folder = picture_folder("sharegpt4v", tmp_path)
    for image in images[1:6]:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()
    found = census("sharegpt4v", Roots(tmp_path, None))
    assert (found.texts, found.images) == (7, 5)
    assert f"2 of the 7 images it lists are missing, first {images[0]} (1 of coco, 1 of llava)" in found.problem
    pictures = found.dataset.images
    assert list(pictures) == [folder / image for image in images[1:6]]
    assert list(pictures[1:3]) == [folder / image for image in images[2:4]]


# --- the program ------------------------------------------------------------------------------


def test_check_shows_one_row_a_data_set(run):
    status, out = run()
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.split() and line.split()[0] in DATASETS}
    assert set(rows) >= SAMPLE_SETS
    assert all(len(line) <= 100 for line in rows.values())
    assert "complete" in rows["flickr"]
    assert "20 / 20" in rows["flickr"]
    assert "100 / 100 captions" in rows["flickr"]
    assert "0 of 20" in rows["flickr"]
    assert "built-in sample" in out
    assert "cifar100: " in out  # the sample has none
    assert "toronto.edu" in out
    assert "flickr_val" not in out


def test_check_as_json_agrees_with_the_files(run, copy):
    status, out = run("--json")
    assert status == 0
    content = {row["dataset"]: row for row in json.loads(out)}
    flickr = content["flickr"]
    data = read("flickr", copy.data_dir_sub)
    assert (flickr["images"], flickr["captions"]) == (len(data.images), sum(map(len, data.captions)))
    assert (flickr["state"], flickr["built_in_sample"], flickr["unreadable"]) == ("complete", True, [])
    assert "get" not in flickr
    assert content["cifar100"]["state"] == "absent"
    assert content["cifar100"]["get"]


def test_unreadable_images_are_found_and_named(run, copy, monkeypatch):
    path = flickr_pictures(copy)[3]
    path.write_bytes(path.read_bytes()[:200])
    status, out = run("--dataset", "flickr")
    assert status == 1
    assert "1 of 20" in out
    assert f"flickr: {path}: unreadable image" in out

    monkeypatch.setattr("i0t.data.check.SAMPLED", 1)  # one image of twenty: not the third, by its seed
    status, out = run("--dataset", "flickr")
    assert status == 0
    assert "0 of 1" in out
    status, out = run("--dataset", "flickr", "--full")
    assert status == 1
    assert "1 of 20" in out


def test_what_is_missing_is_reported_with_where_to_get_it(run, copy):
    flickr_pictures(copy)[0].unlink()
    status, out = run("--dataset", "flickr")
    assert status == 1
    assert "1 of the 20 images it lists are missing" in out
    assert "make the sample again" in out

    no_longer_a_sample(copy)
    list_file("nocaps", copy.data_dir_sub).unlink()
    status, out = run("--dataset", "flickr", "--dataset", "nocaps", "--dataset", "flickr_val")
    assert status == 1
    assert "19 / 1000" in out
    assert "nocaps.org" in out
    assert "then: bash scripts/prepare_data.sh nocaps --from FOLDER" in out
    assert "then: bash scripts/prepare_data.sh flickr30k --split val --from FOLDER" in out
    assert all(len(line) <= 100 for line in out.splitlines() if "get: " in line or "then: " in line)


def test_absent_data_sets_fail_only_when_asked_for(run, copy):
    list_file("nocaps", copy.data_dir_sub).unlink()
    assert run()[0] == 0
    assert run("--dataset", "nocaps")[0] == 1


def test_damaged_files_are_a_row_not_an_end(run, copy):
    list_file("flickr", copy.data_dir_sub).write_text('[{"image_id": "1.jpg"}]')
    (list_file("sharegpt4v", copy.data_dir)).write_text((list_file("sharegpt4v", copy.data_dir)).read_text()[:-30])
    status, out = run()
    assert status == 1
    assert out.count("broken") == 2
    assert 'entry 0: has no "captions"' in out
    assert "(the ShareGPT4V captions) at record 79: " in out


# --- evaluations ------------------------------------------------------------------------------


@pytest.fixture
def evaluate(configs: Path, copy: Roots, tmp_path: Path, capsys):
    """Run an evaluation of the tiny model on the copy; returns (status, record or None, output, errors)."""

    def call(program, dataset: str, *flags: str) -> tuple[int, dict | None, str, str]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        places = ["--data-dir", str(copy.main), "--data-dir-sub", str(copy.sub), "--output", str(out)]
        status = program.main(["--model", "tiny", "--workers", "0", "--dataset", dataset, *places, *flags])
        records = [json.loads(path.read_text()) for path in out.glob("*.json")]
        said = capsys.readouterr()
        return status, records[0] if records else None, said.out, said.err

    return call


def test_a_complete_sample_is_evaluated_and_recorded_as_that(evaluate):
    status, record, out, _ = evaluate(retrieval, "flickr")
    assert status == 0
    assert record["data"]["completeness"] == {
        "state": "complete",
        "images": 20,
        "images_expected": "20",
        "captions": 100,
        "captions_expected": "100",
        "built_in_sample": True,
    }
    assert "partial" not in out


@pytest.mark.parametrize(
    ("program", "dataset", "lack"),
    [
        (retrieval, "flickr", "20 of 1000 images, 100 of 5000 captions"),
        (classification, "birdsnap", "48 of 2443 images, 48 of 500 classes"),
        (correlation, "flickr8k_expert", "8 of 1000 images, 144 of 16992 ratings"),
    ],
)
def test_wrong_counts_are_refused_unless_allowed_and_then_reported(evaluate, copy, program, dataset, lack):
    no_longer_a_sample(copy)
    status, record, _, err = evaluate(program, dataset)
    assert (status, record) == (2, None)
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    assert f"{dataset} is not complete: {lack}. " in error
    assert "--allow-partial" in error

    status, record, out, _ = evaluate(program, dataset, "--allow-partial")
    assert status == 0
    assert record["data"]["completeness"]["state"] == "partial"
    assert record["data"]["completeness"]["why"] == lack
    assert f"{dataset} (partial)" in out
    assert f"{dataset}: partial: {lack}" in out


def test_embeddings_remember_that_their_data_set_was_partial(evaluate, copy, tmp_path):
    no_longer_a_sample(copy)
    evaluate(retrieval, "flickr", "--allow-partial")
    given = next((tmp_path / "out").glob("*.embeddings.safetensors")).rename(tmp_path / "given.safetensors")
    out = ["--output", str(tmp_path / "again")]
    assert retrieval.main(["--embeddings", str(given), *out]) == 0
    record = json.loads(next((tmp_path / "again").glob("*.json")).read_text())
    assert record["data"]["completeness"]["state"] == "partial"


def test_missing_images_are_left_out_when_allowed(evaluate, copy):
    gone = flickr_pictures(copy)[:2]
    for path in gone:
        path.unlink()
    status, _, _, err = evaluate(retrieval, "flickr")
    assert status == 2
    assert f"2 of the 20 images it lists are missing, first {gone[0]}" in err
    status, record, out, _ = evaluate(retrieval, "flickr", "--allow-partial", "--captions-per-image", "5")
    assert status == 0
    assert (record["data"]["images"], record["data"]["texts"]) == (18, 90)
    assert record["data"]["completeness"]["images"] == 18
    assert "2 of the 20 images" in out

    judged = sorted((copy.data_dir / "pacscore_datasets/flickr8k/images").iterdir())[0]
    judged.unlink()
    assert evaluate(correlation, "flickr8k_cf")[0] == 2
    status, record, _, _ = evaluate(correlation, "flickr8k_cf", "--allow-partial")
    assert status == 0
    used = record["data"]["ratings_used"] + record["data"]["ratings_nan"]
    assert (record["data"]["images"], used) == (7, 7 * 8)  # eight candidates an image


def test_embeddings_of_partial_judgments_are_measured_when_allowed(evaluate, copy, tmp_path):
    evaluate(correlation, "flickr8k_cf")
    given = next((tmp_path / "out").glob("*.embeddings.safetensors")).rename(tmp_path / "given.safetensors")
    sorted((copy.data_dir / "pacscore_datasets/flickr8k/images").iterdir())[0].unlink()
    flags = ["--embeddings", str(given), "--data-dir", str(copy.main), "--output", str(tmp_path / "again")]
    assert correlation.main(flags) == 2
    assert correlation.main([*flags, "--allow-partial"]) == 0
    record = json.loads(next((tmp_path / "again").glob("*.json")).read_text())
    assert record["data"]["completeness"]["state"] == "partial"
    assert record["data"]["ratings_used"] + record["data"]["ratings_nan"] == 7 * 8


def test_a_known_shortfall_is_evaluated_and_named(evaluate, copy, monkeypatch):
    no_longer_a_sample(copy)
    entry = DATASETS["birdsnap"]
    known = replace(entry, images=Count(60), texts=Count(48), known_images=Count(48), why="twelve are gone from Flickr")
    monkeypatch.setitem(DATASETS, "birdsnap", known)
    status, record, out, _ = evaluate(classification, "birdsnap")
    assert status == 0
    assert record["data"]["completeness"]["state"] == "known shortfall"
    assert "birdsnap: known shortfall: twelve are gone from Flickr" in out
    assert "(partial)" not in out


def test_nothing_is_encoded_when_one_of_several_is_partial(evaluate, copy, monkeypatch):
    flickr_pictures(copy)[0].unlink()
    monkeypatch.setattr("evaluation.run.load_encoder", lambda *_: pytest.fail("the model was loaded"))
    assert evaluate(retrieval, "coco", "--dataset", "flickr")[0] == 2
