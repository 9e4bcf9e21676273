"""Readers of the real layouts, on hand-made files, the built-in sample and the stamps.

Run: python -m pytest tests/test_readers.py
"""

from __future__ import annotations

import codecs
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from owners_files import list_file, put, read
from PIL import Image
from real_data import STAMPS, needs_stamps

from i0t import I0TError
from i0t.data.class_sets import read_templates
from i0t.data.datasets import is_present
from i0t.data.items import open_image
from i0t.data.sharegpt4v import load_sharegpt4v, short_caption
from i0t.paths import REPO, Roots

SHAREGPT4V = "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json"


def pictures(folder: Path, *names: str) -> None:
    """Write files with these names; readers only check that they exist."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# --- ShareGPT4V ------------------------------------------------------------------------------


def long_record(image: str, caption: str = "A red bus. It is parked.") -> dict:
    """One record in ShareGPT4V's form."""
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": caption}]
    return {"id": Path(image).stem, "image": image, "conversations": talk}


def sharegpt4v(root: Path, records: Any) -> Path:
    """The layout, with the images of well-formed records."""
    put(root / SHAREGPT4V, records)
    for record in records if isinstance(records, list) else []:
        if isinstance(record, dict) and isinstance(record.get("image"), str):
            pictures(root / "sharegpt4v" / "data", record["image"])
    return root


@pytest.mark.parametrize(("count", "held_out"), [(10_001, 1000), (10_000, 1000), (9_999, 999), (100, 10), (19, 1)])
def test_first_thousand_records_or_a_tenth_are_validation(tmp_path, count, held_out):
    sharegpt4v(tmp_path, [long_record("coco/one.jpg")])
    put(tmp_path / SHAREGPT4V, [long_record("coco/one.jpg", f"caption {row}") for row in range(count)])
    validation, train = (load_sharegpt4v(tmp_path, split) for split in ("validation", "train"))
    assert len(validation) == held_out
    assert list(validation.captions) == [f"caption {row}" for row in range(held_out)]
    assert list(train.captions) == [f"caption {row}" for row in range(held_out, count)]


def test_too_few_records_for_validation_are_reported(tmp_path):
    sharegpt4v(tmp_path, [long_record(f"coco/{row}.jpg") for row in range(9)])
    assert len(load_sharegpt4v(tmp_path, "train")) == 9
    with pytest.raises(I0TError, match="no validation record"):
        load_sharegpt4v(tmp_path, "validation")


def test_subset_is_the_first_folder(tmp_path):
    images = ["coco/train2017/1.jpg", "llava/coco/2.jpg", "sam/images/3.jpg", "coco/train2017/4.jpg"]
    sharegpt4v(tmp_path, [long_record(image, f"It is {image}.") for image in images])
    for subset, rows in (("coco", [0, 3]), ("llava", [1]), ("sam", [2]), ("all", [0, 1, 2, 3])):
        pairs = load_sharegpt4v(tmp_path, "train", subset)
        assert list(pairs.images) == [tmp_path / "sharegpt4v" / "data" / images[row] for row in rows]
        assert list(pairs.captions) == [f"It is {images[row]}." for row in rows]
    with pytest.raises(I0TError, match="no train record in the subset 'co'"):
        load_sharegpt4v(tmp_path, "train", "co")


def test_images_of_other_subsets_need_not_be_there(tmp_path):
    sharegpt4v(tmp_path, [long_record("coco/1.jpg"), long_record("sam/2.jpg")])
    (tmp_path / "sharegpt4v" / "data" / "sam" / "2.jpg").unlink()
    assert len(load_sharegpt4v(tmp_path, "train", "coco")) == 1
    with pytest.raises(I0TError, match=r"1 of the 2 images it lists are missing(.|\n)*first 1:\n  sam/2\.jpg"):
        load_sharegpt4v(tmp_path, "train", "all")


def test_validation_leaves_out_missing_images_of_other_folders(tmp_path):
    """COCO's images alone are enough for training; a missing COCO image is still an error."""
    names = [f"{folder}/{row}.jpg" for row in range(15) for folder in ("coco", "sam")]
    sharegpt4v(tmp_path, [long_record(name) for name in names])
    (tmp_path / "sharegpt4v" / "data" / "sam" / "0.jpg").unlink()
    validation = load_sharegpt4v(tmp_path, "validation", "coco")
    assert list(validation.image_ids) == ["coco/0.jpg", "coco/1.jpg"]
    assert validation.missing == ["sam/0.jpg"]
    with pytest.raises(I0TError, match=r"1 of the 3 images(.|\n)*sam/0\.jpg"):
        load_sharegpt4v(tmp_path, "validation", "all")
    (tmp_path / "sharegpt4v" / "data" / "coco" / "1.jpg").unlink()
    with pytest.raises(I0TError, match=r"1 of the 3 images(.|\n)*first 1:\n  coco/1\.jpg"):
        load_sharegpt4v(tmp_path, "validation", "coco")


def test_line_breaks_become_spaces_and_short_captions_end_at_the_first_sentence(tmp_path):
    captions = ["A bus.\nIt is red. And big.", "One\n\ntwo", "No end", "At 3.5 m. Or more."]
    sharegpt4v(tmp_path, [long_record(f"coco/{row}.jpg", caption) for row, caption in enumerate(captions)])
    pairs = load_sharegpt4v(tmp_path, "train")
    assert list(pairs.captions) == ["A bus. It is red. And big.", "One  two", "No end", "At 3.5 m. Or more."]
    assert [short_caption(caption) for caption in pairs.captions] == ["A bus", "One  two", "No end", "At 3.5 m"]
    assert short_caption("") == ""
    assert short_caption(". A dog. It runs") == "A dog"  # an empty text would be trained on


ASK, SAY, SYSTEM = (
    {"from": "human", "value": "What is it?"},
    {"from": "gpt", "value": "A red bus."},
    {"from": "system", "value": "Be helpful."},
)


@pytest.mark.parametrize(
    "turns", [[ASK, SAY], [SYSTEM, ASK, SAY], [SAY, ASK], [SAY], [ASK, SAY, ASK, {"from": "gpt", "value": "Blue."}]]
)
def test_the_caption_is_what_gpt_says_wherever_its_turn_stands(tmp_path, turns):
    sharegpt4v(tmp_path, [{**long_record("coco/1.jpg"), "conversations": turns}])
    assert list(load_sharegpt4v(tmp_path, "train").captions) == ["A red bus."]


def test_records_with_an_empty_caption_are_left_out_and_counted(tmp_path, capsys):
    records = [long_record(f"coco/{row}.jpg", text) for row, text in enumerate(["A.", " \n", "B.", "\u200b\ufeff"])]
    sharegpt4v(tmp_path, records)
    assert list(load_sharegpt4v(tmp_path, "train").captions) == ["A.", "B."]
    assert "2 of 4 records have an empty caption and are left out, first 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**long_record("coco/1.jpg"), "conversations": [ASK, SYSTEM]}, "record 1 is not in ShareGPT4V's form.*gpt"),
        (
            '{"image": "a", "image": "b", "conversations": [{"from": "gpt", "value": "a"}]}',
            'record 1: the key "image" is given twice',
        ),
    ],
)
def test_records_without_an_answer_are_refused_by_number(tmp_path, record, message):
    good = json.dumps(long_record("coco/1.jpg"))
    put(tmp_path / SHAREGPT4V, f"[{good}, {record if isinstance(record, str) else json.dumps(record)}]")
    with pytest.raises(I0TError, match=rf"1246k_1107\.json: {message}"):
        load_sharegpt4v(tmp_path, "train")


@pytest.mark.parametrize(
    "content",
    [
        {"images": []},
        {},
        None,
        7,
        "[1, 2",
        "",
        ["just", "words"],
        [None],
        [{"id": "1", "conversations": [{}, {"value": "a"}]}],
        [{"image": "coco/1.jpg"}],
        [{"image": "coco/1.jpg", "conversations": [{"from": "human", "value": "only a question"}]}],
        [{"image": "coco/1.jpg", "conversations": [{}, {"from": "gpt"}]}],
        [{"image": "coco/1.jpg", "conversations": [{}, {"value": None}]}],
        [{"image": 5, "conversations": [{}, {"value": "a"}]}],
        [],
    ],
)
def test_training_file_of_another_form_is_refused_by_name(tmp_path, content):
    sharegpt4v(tmp_path, content)
    with pytest.raises(I0TError, match=r"share-captioner_coco_lcs_sam_1246k_1107\.json: "):
        load_sharegpt4v(tmp_path, "train")


def test_missing_training_file_is_reported(tmp_path):
    with pytest.raises(I0TError, match=r"1246k_1107\.json: no such file \(the ShareGPT4V captions\)"):
        load_sharegpt4v(tmp_path, "train")


# --- COCO, Flickr30k, NoCaps -----------------------------------------------------------------

FIVE = [f"caption {number}" for number in range(5)]
GOOD = {"image_id": "a.jpg", "captions": FIVE}
GOLD_FOLDERS = {"coco": "coco/images/val2014", "flickr": "flickr30k/images/flickr30k-images"}


def gold(root: Path, name: str, content: Any, *images: str) -> Path:
    """A GOLD file and its images."""
    pictures(root / "PnP-VQA" / "lavis" / GOLD_FOLDERS[name], *images)
    return put(list_file(name, root), content)


@pytest.mark.parametrize("name", GOLD_FOLDERS)
def test_only_the_base_name_of_a_gold_image_counts(tmp_path, name):
    ids = ["/home/someone/b.jpg", "a.jpg", "x/y/c.jpg"]
    captions = [[" two  words\n", "second"], ["ä"], ["third", "fourth"]]
    source = gold(
        tmp_path,
        name,
        [{"image_id": i, "captions": c} for i, c in zip(ids, captions, strict=True)],
        "a.jpg",
        "b.jpg",
        "c.jpg",
    )
    data = read(name, tmp_path)
    folder = tmp_path / "PnP-VQA" / "lavis" / GOLD_FOLDERS[name]
    assert data.images == [folder / "b.jpg", folder / "a.jpg", folder / "c.jpg"]
    assert data.captions == [["two words", "second"], ["ä"], ["third", "fourth"]]
    assert (data.name, data.source) == (name, source)


def test_first_captions_or_all_five(tmp_path):
    entries = [{"image_id": f"{row}.jpg", "captions": [f"{row} {word}" for word in FIVE + ["sixth"]]} for row in (4, 2)]
    gold(tmp_path, "flickr", entries, "4.jpg", "2.jpg")
    data = read("flickr", tmp_path)
    assert data.items().texts == ["4 caption 0", "2 caption 0"]
    assert data.items().owners == [(0,), (1,)]
    texts, owners = data.items(5).texts, data.items(5).owners
    assert texts == [f"4 {word}" for word in FIVE] + [f"2 {word}" for word in FIVE]
    assert owners == [(0,)] * 5 + [(1,)] * 5
    entries[1]["captions"] = FIVE[:4]
    gold(tmp_path, "flickr", entries)
    with pytest.raises(I0TError, match=r"Flickr_GOLD\.json: 2\.jpg has 4 captions, --captions-per-image 5 needs more"):
        read("flickr", tmp_path).items(5)
    assert len(read("flickr", tmp_path).items(1).texts) == 2


def nocaps(images: list, annotations: list) -> dict:
    """NoCaps' official file: ids and file names, (image, caption) pairs."""
    return {
        "info": {},
        "images": [{"id": number, "file_name": name, "coco_url": "http://x"} for number, name in images],
        "annotations": [{"id": row, "image_id": i, "caption": c} for row, (i, c) in enumerate(annotations)],
    }


def test_nocaps_is_joined_by_id_not_by_order(tmp_path):
    annotations = [(number, f"of {number}, {place}") for place in ("first", "second") for number in (7, 3, 9)]
    put(list_file("nocaps", tmp_path), nocaps([(9, "n.jpg"), (3, "t.jpg"), (7, "s.jpg")], annotations))
    pictures(tmp_path / "PnP-VQA/lavis/nocaps/images/val", "n.jpg", "t.jpg", "s.jpg")
    data = read("nocaps", tmp_path)
    assert [path.name for path in data.images] == ["n.jpg", "t.jpg", "s.jpg"]
    assert data.captions == [[f"of {number}, first", f"of {number}, second"] for number in (9, 3, 7)]


@pytest.mark.parametrize("kind", [str, int])
def test_nocaps_ids_may_be_numbers_here_and_strings_there(tmp_path, kind):
    content = nocaps([(kind(7), "s.jpg"), (str(8), "t.jpg")], [(8, "of 8"), (7, "of 7"), (str(7), "of 7, too")])
    put(list_file("nocaps", tmp_path), content)
    pictures(tmp_path / "PnP-VQA/lavis/nocaps/images/val", "s.jpg", "t.jpg")
    assert read("nocaps", tmp_path).captions == [["of 7", "of 7, too"], ["of 8"]]


def test_gold_with_one_entry_per_caption_is_joined_by_picture_and_says_so(tmp_path, capsys):
    entries = [{"image_id": f"x/{row}.jpg", "captions": [f"{row} {word}"]} for word in FIVE for row in (4, 2)]
    gold(tmp_path, "flickr", entries, "4.jpg", "2.jpg")
    data = read("flickr", tmp_path)
    assert data.image_ids == ["4.jpg", "2.jpg"]
    assert data.captions == [[f"{row} {word}" for word in FIVE] for row in (4, 2)]
    assert "Flickr_GOLD.json: 10 entries of 2 pictures: captions of one picture are joined" in capsys.readouterr().err


def with_mark(path: Path) -> None:
    """Put a byte-order mark before a text file."""
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def test_byte_order_marks_are_no_content(tmp_path):
    with_mark(gold(tmp_path, "flickr", [GOOD], "a.jpg"))
    assert read("flickr", tmp_path).captions == [FIVE]
    pictures(tmp_path / FLICKR8K / "images", "x.jpg")
    with_mark(put(list_file("flickr8k_cf", tmp_path), {"1": judged("x.jpg", ["a"], ("a", 1))}))
    assert read("flickr8k_cf", tmp_path).ratings == [1]
    sharegpt4v(tmp_path, [long_record("coco/1.jpg")])
    with_mark(tmp_path / SHAREGPT4V)
    assert list(load_sharegpt4v(tmp_path, "train").captions) == ["A red bus. It is parked."]
    pictures(tmp_path / BIRDSNAP, "Red_Circle/1.png")
    with_mark(put(tmp_path / BIRDSNAP / ".." / "templates.txt", "a big {}\n"))
    assert read("birdsnap", tmp_path).templates == ["a big {}"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("flickr", "[{", "not valid JSON"),
        ("flickr", "[" * 200_000, "nested more than 64 levels"),
        ("flickr", f'[{{"image_id": {"9" * 5000}}}]', "a whole number of 5000 digits"),
        ("flickr", {"images": []}, "expected a list"),
        ("flickr", ["a.jpg"], 'entry 0: is "a.jpg", not an object'),
        ("flickr", None, "expected a list"),
        ("flickr", [GOOD, {"image_id": "a.jpg"}], 'entry 1: has no "captions".*download'),
        ("flickr", [{"captions": FIVE}], 'entry 0: has no "image_id"'),
        ("flickr", [{"image_id": 17, "captions": FIVE}], 'entry 0: "image_id" is 17, not a string'),
        ("flickr", [{"image_id": "a.jpg", "captions": "a dog"}], 'entry 0: "captions" is "a dog", not a list'),
        ("flickr", [{"image_id": "a.jpg", "captions": ["a", None]}], r'entry 0: "captions"\[1\] is null, not a string'),
        ("flickr", [{"image_id": "a.jpg", "captions": None}], 'entry 0: "captions" is null, not a list'),
        ("flickr", [], "lists no image"),
        ("flickr", [{"image_id": "a.jpg", "captions": []}], r"a\.jpg has no captions"),
        (
            "flickr",
            [{"image_id": f"{n}gone.jpg", "captions": FIVE} for n in (0, 1)],
            r"2 of the 2 images.*first .*gone\.jpg",
        ),
        (
            "flickr",
            [{"image_id": "a.jpg", "captions": ["a", " "]}],
            r'"captions"\[1\] is " ", not a text with words',
        ),
        ("flickr", [{"image_id": "a.jpg", "captions": ["\u00a0\u200b"]}], "not a text with words"),
        ("flickr", [GOOD, GOOD], r"entry 1: a\.jpg is listed twice"),
        ("flickr", [GOOD, {**GOOD, "captions": ["one"]}], r"entry 1: a\.jpg is listed twice"),
        ("flickr", [{**GOOD, "image_id": f"{f}/a.jpg"} for f in "xy"], r"x/a\.jpg and y/a\.jpg would be one file"),
        ("flickr", '[{"image_id": "a.jpg", "captions": ["a"], "captions": ["b"]}]', '"captions" is given twice'),
        ("nocaps", nocaps([(1, "a.jpg"), ("1", "b.jpg")], [(1, "a")]), r'"images"\[1\]: the id .1. is listed twice'),
        ("nocaps", nocaps([(1, "a.jpg"), (2, "a.jpg")], [(1, "a"), (2, "b")]), r"a\.jpg is listed twice"),
        ("nocaps", nocaps([(1, "a.jpg")], [(1, "")]), r'"annotations"\[0\]: "caption" is "", not a text with words'),
        ("nocaps", [], "expected NoCaps"),
        ("nocaps", {"images": []}, "expected NoCaps.*annotations"),
        (
            "nocaps",
            nocaps([(1, "a.jpg")], [(1, "a dog"), (77, "a cat")]),
            r'"annotations"\[1\] is of image .77., which the file does not list.*download',
        ),
        ("nocaps", {"images": [{"id": 1}], "annotations": []}, r'"images"\[0\]: has no "file_name"'),
        ("nocaps", nocaps([(None, "a.jpg")], []), r'"images"\[0\]: "id" is null, not a number or a'),
        (
            "nocaps",
            {**nocaps([(1, "a.jpg")], []), "annotations": [{"image_id": 1}]},
            r'"annotations"\[0\]: has no "caption"',
        ),
        ("nocaps", nocaps([(1, "a.jpg")], []), r"a\.jpg has no captions"),
        ("nocaps", nocaps([(1, "a.jpg")], [(1, None)]), r'"annotations"\[0\]: "caption" is null, not a string'),
        ("nocaps", nocaps([(1, "gone.jpg")], [(1, "a dog")]), r"1 of the 1 images.*gone\.jpg"),
    ],
)
def test_bad_captions_are_refused_by_name(tmp_path, name, content, message):
    source = put(list_file(name, tmp_path), content)
    for folder in (GOLD_FOLDERS["flickr"], "nocaps/images/val"):
        pictures(tmp_path / "PnP-VQA" / "lavis" / folder, "a.jpg")
    with pytest.raises(I0TError, match=rf"{source.name}: .*{message}"):
        read(name, tmp_path)


# --- Flickr8k judgments ----------------------------------------------------------------------

FLICKR8K = "pacscore_datasets/flickr8k"


def judged(image: str, references: Any, *ratings: tuple[Any, Any]) -> dict:
    """One image in the pacscore form."""
    judgments = [{"image_path": "ignored", "caption": caption, "rating": rating} for caption, rating in ratings]
    return {"image_path": image, "ground_truth": references, "human_judgement": judgments}


@pytest.mark.parametrize("name", ["flickr8k_expert", "flickr8k_cf"])
def test_nan_ratings_are_dropped_and_counted_and_white_space_collapses(tmp_path, name):
    top = 4.0 if name == "flickr8k_expert" else 1.0
    content = {
        "1": judged("any/dir/x.jpg", ["a  dog ", "one\ndog"], (" two \t dogs", 1.0), ("nan", math.nan), ("b", top)),
        "2": judged("y.jpg", ["a cat"], ("only nan", math.nan)),
        "3": judged("z.jpg", ["a cat"], ("two dogs", 1), ("two dogs", top)),
    }
    source = put(list_file(name, tmp_path), content)
    assert source.name == ("flickr8k.json" if name == "flickr8k_expert" else "crowdflower_flickr8k.json")
    assert "NaN" in source.read_text()
    pictures(tmp_path / FLICKR8K / "images", "x.jpg", "y.jpg", "z.jpg")
    data = read(name, tmp_path)
    assert data.images == [tmp_path / FLICKR8K / "images" / image for image in ("x.jpg", "y.jpg", "z.jpg")]
    assert data.references == [["a dog", "one dog"], ["a cat"], ["a cat"]]
    assert data.image_of_rating == [0, 0, 2, 2]
    assert data.candidates == ["two dogs", "b", "two dogs", "two dogs"]
    assert data.ratings == [1.0, top, 1.0, top]  # one by one, not averaged
    assert data.n_dropped == 2
    assert (data.name, data.source) == (name, source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ([], "expected the pacscore form: is .., not an object"),
        (None, "expected the pacscore form: is null, not an object"),
        ({"1": "words"}, 'expected the pacscore form: "1": is "words", not an object'),
        ({"7": {"image_path": "x.jpg", "ground_truth": ["a"]}}, '.*form: "7": has no "human_judgement".*download'),
        ({"1": judged("x.jpg", None, ("a", 1))}, '.*form: "1": "ground_truth" is null, not a list'),
        ({"1": judged("x.jpg", "a dog", ("a", 1))}, '.*form: "1": "ground_truth" is "a dog", not a list'),
        ({"1": judged("x.jpg", ["a"], (None, 1))}, r'.*"1": "human_judgement"\[0\]: "caption" is null'),
        ({"1": judged("x.jpg", ["a"], ("a", 1), ("a", None))}, r'.*"1": "human_judgement"\[1\]: "rating" is null'),
        ({"1": judged("x.jpg", ["a"], ("a", "good"))}, '.*"1": .*: "rating" is "good", not a number'),
        ({"1": judged("x.jpg", ["a"], ("a", math.nan), ("b", math.nan))}, r"no rating left \(2 were NaN\)"),
        ({}, "no rating left"),
        ({"1": judged("x.jpg", [], ("a", 1))}, r"1: x\.jpg has no references"),
        ({"1": judged("x.jpg", ["a"], ("a", 66.7))}, r"1: a rating of 66\.7, the scale is 1 to 4"),
        ({"1": judged("x.jpg", ["a"], ("a", 0.5))}, r"1: a rating of 0\.5, the scale is 1 to 4"),
        ({"1": judged("x.jpg", ["a"], ("a", math.inf))}, r"1: a rating of inf, the scale is 1 to 4"),
        ({"1": judged("x.jpg", ["a"], (" ", 1))}, r'.*"human_judgement"\[0\]: "caption" is " ", not a text with words'),
        ({"1": judged("x.jpg", ["a", ""], ("a", 1))}, r'.*"ground_truth"\[1\] is "", not a text with words'),
        ({key: judged(f"{key}/x.jpg", ["a"], ("a", 1)) for key in "ab"}, r"a/x\.jpg and b/x\.jpg would be one file"),
        (f'{{"1": {json.dumps(judged("x.jpg", ["a"], ("a", 1)))}, "1": {{}}}}', r'the key "1" is given twice'),
        ({"1": judged("d/gone.jpg", ["a"], ("a", 1))}, r"1 of the 1 images.*images/gone\.jpg"),
    ],
)
def test_bad_judgments_are_refused_by_name(tmp_path, content, message):
    put(list_file("flickr8k_expert", tmp_path), content)
    pictures(tmp_path / FLICKR8K / "images", "x.jpg")
    with pytest.raises(I0TError, match=rf"flickr8k\.json: {message}"):
        read("flickr8k_expert", tmp_path)


# --- classification --------------------------------------------------------------------------

BIRDSNAP = "zeroshot_datasets/birdsnap/test"


def test_class_folders_keep_empty_classes_and_skip_what_is_no_image(tmp_path):
    folder = tmp_path / BIRDSNAP
    pictures(folder, "Wood_Duck/2.JPG", "Wood_Duck/1.png", "Wood_Duck/notes.txt", "Bald_Eagle/x.jpeg", "list.txt")
    (folder / "Empty_One").mkdir()
    (folder / "Wood_Duck" / "3.jpg").touch()
    roots = Roots(tmp_path, None)
    assert is_present("birdsnap", roots)
    data = read("birdsnap", tmp_path)
    assert data.class_names == ["Bald Eagle", "Empty One", "Wood Duck"]
    assert data.image_ids == ["Bald_Eagle/x.jpeg", "Wood_Duck/1.png", "Wood_Duck/2.JPG", "Wood_Duck/3.jpg"]
    assert data.images == [folder / name for name in data.image_ids]
    assert data.labels == [0, 2, 2, 2]
    assert data.templates == ["a photo of a {}, a type of bird."]


def test_hidden_and_archive_leftovers_are_no_classes_or_pictures_and_are_counted(tmp_path, capsys):
    folder = tmp_path / BIRDSNAP
    pictures(folder, "Wood_Duck/1.png", "Wood_Duck/._1.png", ".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/2.png")
    pictures(folder, "#recycle/3.png", "$RECYCLE.BIN/4.png", "Wood_Duck/more/5.png", "Wood_Duck/6.tif")
    (folder / "Wood_Duck" / "folder.png").mkdir()
    data = read("birdsnap", tmp_path)
    assert (data.class_names, data.image_ids) == (["Wood Duck"], ["Wood_Duck/1.png"])
    said = capsys.readouterr().err
    assert "birdsnap/test: 5 hidden files and folders" in said
    assert "3 files and folders in its class folders are left out: none of .jpg" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cafe\u0301", "Caf\u00e9"),
        ("Snowy Owl", "Snowy_Owl"),
        ("Allen's Hummingbird", "Allens_Hummingbird"),
        ("Red_Ball", "red_ball"),
    ],
)
def test_two_class_folders_of_one_name_are_refused(tmp_path, one, other):
    pictures(tmp_path / BIRDSNAP, f"{one}/1.png", f"{other}/2.png")
    with pytest.raises(I0TError, match=f"test/{other}: the same class as .*/{one} "):
        read("birdsnap", tmp_path)


def test_templates_beside_the_images_replace_birdsnaps(tmp_path):
    pictures(tmp_path / BIRDSNAP, "Red_Circle/1.png")
    put(tmp_path / BIRDSNAP / ".." / "templates.txt", "# ours\na big {}\n")
    data = read("birdsnap", tmp_path)
    assert data.templates == ["a big {}"]
    assert data.class_names == ["red circle"]


def test_missing_class_folders_are_reported(tmp_path):
    roots = Roots(tmp_path, None)
    assert not is_present("birdsnap", roots) and not is_present("birdsnap", Roots(None, tmp_path))
    with pytest.raises(I0TError, match=r"birdsnap/test: no such folder"):
        read("birdsnap", tmp_path)
    pictures(tmp_path / BIRDSNAP, "a/readme.txt", "b/readme.txt")
    with pytest.raises(I0TError, match=r"no image in its class folders \(2 found\)"):
        read("birdsnap", tmp_path)


def test_missing_or_damaged_cifar_is_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("i0t.paths.CACHE_ROOT", tmp_path)
    assert not is_present("cifar100", Roots(tmp_path, None))
    for _ in range(2):
        with pytest.raises(
            I0TError, match=rf"{tmp_path / 'cifar-100-python'}: CIFAR-100 is missing or damaged.*--download"
        ):
            read("cifar100", tmp_path)
        pictures(tmp_path / "cifar-100-python", "train", "test", "meta")
    assert is_present("cifar100", Roots(None, None))


def test_cifar_templates_are_the_papers_eighteen():
    """METHOD, App. D."""
    kinds = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
    expected = {f"a {kind}photo of {article} {{}}." for kind in kinds for article in ("a", "the")}
    expected |= {f"a photo of {article} {size} {{}}." for article in ("a", "the") for size in ("small", "big")}
    templates = read_templates(REPO / "configs" / "templates" / "cifar100.txt")
    assert len(templates) == len(expected) == 18
    assert set(templates) == expected
    assert read_templates(REPO / "configs" / "templates" / "birdsnap.txt") == ["a photo of a {}, a type of bird."]


@pytest.mark.parametrize("content", ["", "# {} in a comment\n\n", "a photo\n", "a {} and a {}\n", "a {}\nnone\n"])
def test_bad_templates_are_refused(tmp_path, content):
    path = put(tmp_path / "templates.txt", content)
    with pytest.raises(I0TError, match=r"templates\.txt: every line must be a template with one \{\}"):
        read_templates(path)


def test_templates_that_cannot_be_read_are_reported_by_name(tmp_path):
    path = tmp_path / "templates.txt"
    with pytest.raises(I0TError, match=r"templates\.txt: no such file \(It needs one"):
        read_templates(path)
    path.write_bytes("a {} of Curaçao\n".encode("latin-1"))
    with pytest.raises(I0TError, match=r"templates\.txt: line 1 is not UTF-8"):
        read_templates(path)


# --- whole layouts ---------------------------------------------------------------------------


def test_sample_is_read_by_every_reader(sample_roots):
    """The numbers of `conftest.SMALL`."""
    train, validation = (load_sharegpt4v(sample_roots.data_dir, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (72, 8)
    assert not set(train.images) & set(validation.images)
    assert not any("\n" in caption for caption in train.captions)
    for name, count in (("flickr", 20), ("coco", 8), ("nocaps", 6)):
        data = read(name, sample_roots.data_dir_sub)
        assert len(data.images) == len(set(data.images)) == count
        assert len(data.items(5).texts) == 5 * count
    classes = read("birdsnap", sample_roots.main)
    assert len(classes.class_names) == len(classes.images) == 48
    for name in ("flickr8k_expert", "flickr8k_cf"):
        data = read(name, sample_roots.data_dir)
        assert len(data.images) == 8 and len(data.ratings) == len(data.candidates) == len(data.image_of_rating) > 8
    assert np.asarray(open_image(train.images[0])).shape == (64, 64, 3)


@needs_stamps
def test_stamps_are_read_as_their_files_say():
    """Real images and words in the paper's layout."""
    main, sub = STAMPS / "data_dir", STAMPS / "data_dir_sub"
    train, validation = (load_sharegpt4v(main, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (198, 22)
    flickr = read("flickr", sub)
    assert len(flickr.images) == 144 and len(flickr.items(5).texts) == 720
    for name in ("flickr8k_expert", "flickr8k_cf"):
        content = json.loads(list_file(name, main).read_text())
        ratings = [judgment["rating"] for entry in content.values() for judgment in entry["human_judgement"]]
        data = read(name, main)
        assert len(data.images) == 144
        assert data.n_dropped == sum(rating != rating for rating in ratings) > 0
        assert data.ratings == [rating for rating in ratings if rating == rating]
    shown = open_image(flickr.images[0])
    assert isinstance(shown, Image.Image) and min(shown.size) > 8
