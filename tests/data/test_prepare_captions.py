"""Caption sets prepared from generated files of their owners' forms: what is written, kept, resumed and refused.

Run: python -m pytest tests/data/test_prepare_captions.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from owners_files import (
    coco_folder,
    coco_name,
    coco_style,
    files_below,
    five,
    flickr8k_texts,
    flickr_folder,
    karpathy_row,
    list_file,
    long_record,
    nocaps_rows,
    picture_folder,
    pictures,
    put,
    read,
)

from i0t.data.prepare import job as job_module
from i0t.data.prepare.__main__ import main as prepare
from i0t.paths import Roots

# --- COCO ------------------------------------------------------------------------------------


def test_karpathys_test_split_is_written_in_order_with_five_captions_each(tmp_path, roots, run):
    source = coco_folder(tmp_path / "coco", {42: 5, 7: 7, 99: 6}, {1: "train", 2: "val", 3: "restval"})
    status, out, _ = run("coco", "--from", source)
    assert status == 1  # three images are not five thousand
    assert "18 captions of 3 images, the first 5 of each kept" in out
    assert "captions_val2014.json: has all 3 images; 0 of Karpathy's captions read differently in it" in out
    assert "images linked: 3, already there: 0, missing: 0" in out
    assert "coco: 3 of 5000 images, 15 of 25000 captions: partial" in out
    assert "--allow-partial" in out

    gold = json.loads(list_file("coco", roots.sub).read_text())
    names = [coco_name(number) for number in (42, 7, 99)]
    assert gold == [{"image_id": f"val2014/{name}", "captions": five(name)} for name in names]
    data = read("coco", roots.sub)
    assert [path.name for path in data.images] == names
    assert all(path.is_symlink() and path.resolve() == (source / "val2014" / path.name) for path in data.images)
    assert len(files_below(picture_folder("coco", roots.sub))) == 3  # none of the other splits


def test_running_again_changes_nothing(tmp_path, roots, run):
    source = coco_folder(tmp_path / "coco", {1: 5, 2: 5}, {})
    assert run("coco", "--from", source, "--allow-partial")[0] == 0
    before = {path: path.lstat().st_mtime_ns for path in files_below(roots.sub)}
    status, out, _ = run("coco", "--from", source, "--allow-partial")
    assert status == 0
    assert "images linked: 0, already there: 2" in out
    assert "COCO_GOLD.json: unchanged" in out
    assert {path: path.lstat().st_mtime_ns for path in files_below(roots.sub)} == before


def test_an_interrupted_run_is_continued(tmp_path, roots, run, monkeypatch):
    source = coco_folder(tmp_path / "coco", {1: 5, 2: 5, 3: 5}, {})
    place, placed = job_module.place_file, []

    def stop_at_the_third(*arguments):
        if len(placed) == 2:
            raise KeyboardInterrupt
        placed.append(arguments)
        return place(*arguments)

    monkeypatch.setattr(job_module, "place_file", stop_at_the_third)
    assert run("coco", "--from", source)[0] == 130
    assert len(files_below(roots.sub)) == 2
    assert not list_file("coco", roots.sub).exists()  # the list comes last, so nothing looks prepared

    monkeypatch.setattr(job_module, "place_file", place)
    _, out, _ = run("coco", "--from", source)
    assert "images linked: 1, already there: 2, missing: 0" in out
    assert len(read("coco", roots.sub).images) == 3


def test_missing_images_are_reported_before_anything_is_placed(tmp_path, roots, run):
    source = coco_folder(tmp_path / "coco", {1: 5, 2: 5, 3: 5}, {})
    gone = source / "val2014" / coco_name(2)
    kept = gone.read_bytes()
    gone.unlink()
    status, _, err = run("coco", "--from", source)
    assert status == 2
    assert f"{gone}: no such image; 1 of 3 that the list names are missing" in err
    assert files_below(roots.sub) == []

    status, out, _ = run("coco", "--from", source, "--allow-partial")
    assert status == 0
    assert "images linked: 2, already there: 0, missing: 1" in out
    assert "1 of the 3 images it lists are missing" in out

    gone.write_bytes(kept)
    _, out, _ = run("coco", "--from", source)
    assert "images linked: 1, already there: 2, missing: 0" in out
    assert "COCO_GOLD.json: unchanged" in out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: [1, 2], 'expected an object with a list "images"'),
        (lambda content: {"images": [], "dataset": "coco"}, 'a list "images" of objects'),
        (lambda content: {**content, "dataset": "flickr8k"}, "holds flickr8k, not coco"),
        (lambda content: {"images": [{**row, "split": "train"} for row in content["images"]]}, "it has train"),
        (
            lambda content: {"images": [{"split": "test", "filename": "a.jpg"}]},
            'images[0]: expected "filename" and "sentences" with "raw": has no "sentences"',
        ),
        (lambda content: {"images": [karpathy_row("a.jpg", "test", 4)]}, "images[0]: a.jpg has 4 captions"),
        (lambda content: {"images": content["images"] * 2}, "images[2]: COCO_val2014_000000000001.jpg is listed twice"),
    ],
)
def test_a_list_of_another_form_is_refused_by_name(tmp_path, roots, run, spoil, message):
    source = coco_folder(tmp_path / "coco", {1: 5, 2: 5}, {})
    path = source / "dataset_coco.json"
    put(path, spoil(json.loads(path.read_text())))
    status, _, err = run("coco", "--from", source)
    assert status == 2
    assert message in err
    assert str(path) in err
    assert err.count("\n") == 1
    assert files_below(roots.sub) == []


def test_karpathys_captions_are_compared_with_cocos_own(tmp_path, run):
    source = coco_folder(tmp_path / "coco", {1: 5, 2: 5}, {})
    path = source / "annotations" / "captions_val2014.json"
    official = json.loads(path.read_text())
    official["annotations"][0]["caption"] = (
        "  caption 0   of COCO_val2014_000000000001.jpg\n"  # white space is no matter
    )
    official["annotations"][1]["caption"] = "another"
    put(path, official)
    assert "1 of Karpathy's captions read differently" in run("coco", "--from", source)[1]

    official["images"][0]["file_name"] = "COCO_train2014_000000000001.jpg"
    put(path, official)
    status, _, err = run("coco", "--from", source)
    assert status == 2
    assert f"{path}: COCO_val2014_000000000001.jpg (cocoid 1)" in err

    path.unlink()
    assert "captions_val2014.json is not there" in run("coco", "--from", source)[1]


def test_val2017_is_a_set_of_its_own(tmp_path, roots, run):
    names = {9: coco_name(9, "val2017"), 4: coco_name(4, "val2017")}
    put(tmp_path / "coco" / "annotations" / "captions_val2017.json", coco_style(names, captions=6))
    pictures(tmp_path / "coco" / "val2017", names.values())
    status, out, _ = run("coco", "--split", "val2017", "--from", tmp_path / "coco", "--allow-partial")
    assert status == 0
    assert "coco_val2017: 2 of 5000 images, 10 of 25000 captions" in out
    data = read("coco_val2017", roots.sub)
    assert [path.name for path in data.images] == list(names.values())
    assert data.captions == [five(name, 6)[:5] for name in names.values()]
    assert not list_file("coco", roots.sub).exists()


# --- Flickr30k -------------------------------------------------------------------------------


def test_flickr_test_and_validation_do_not_mix(tmp_path, roots, run):
    source = flickr_folder(tmp_path / "flickr", {"1.jpg": "train", "2.jpg": "test", "3.jpg": "val", "4.jpg": "test"})
    assert "flickr: 2 of 1000 images, 10 of 5000 captions" in run("flickr30k", "--from", source)[1]
    assert "flickr_val: 1 of 1014 images" in run("flickr30k", "--from", source, "--split", "val")[1]
    assert [path.name for path in read("flickr", roots.sub).images] == ["2.jpg", "4.jpg"]
    assert [path.name for path in read("flickr_val", roots.sub).images] == ["3.jpg"]


def test_images_may_lie_elsewhere_and_be_copied(tmp_path, roots, run):
    source = flickr_folder(tmp_path / "flickr", {"1.jpg": "test"})
    elsewhere = (source / "flickr30k-images").rename(tmp_path / "pictures")
    status, _, err = run("flickr30k", "--from", source)
    assert status == 2
    assert f"{source}: no folder of images (flickr30k-images" in err
    flags = ("flickr30k", "--from", source, "--images", elsewhere, "--allow-partial")
    assert run(*flags)[0] == 0
    path = read("flickr", roots.sub).images[0]
    assert path.is_symlink()
    assert "images copied: 1" in run(*flags, "--copy")[1]  # a link becomes a copy when copies are asked for
    assert not path.is_symlink()
    assert "images linked: 0, already there: 1" in run(*flags)[1]  # and a copy stays one
    shutil.rmtree(elsewhere)
    assert path.is_file()


def test_what_is_there_and_differs_is_never_replaced_unasked(tmp_path, roots, run):
    source = flickr_folder(tmp_path / "flickr", {"1.jpg": "test"})
    gold = put(list_file("flickr", roots.sub), [{"image_id": "1.jpg", "captions": five("another")}])
    status, _, err = run("flickr30k", "--from", source)
    assert status == 2
    assert f"{gold}: exists and differs" in err
    assert run("flickr30k", "--from", source, "--overwrite", "--allow-partial")[0] == 0
    assert read("flickr", roots.sub).captions == [five("1.jpg")]

    path = picture_folder("flickr", roots.sub) / "1.jpg"
    path.unlink()
    path.write_bytes(b"not the same image")
    status, _, err = run("flickr30k", "--from", source)
    assert status == 2
    assert f"{path}: exists, and is not {source / 'flickr30k-images' / '1.jpg'}" in err

    path.unlink()
    path.symlink_to(tmp_path / "moved away")  # a link that leads nowhere is ours to replace
    assert "images linked: 1" in run("flickr30k", "--from", source)[1]


def differing_list(roots: Roots, name: str) -> Path:
    """A list of other content in the place of a data set's list."""
    path = list_file(name, roots.main if name == "flickr8k_expert" else roots.sub)
    return put(path, [{"image_id": "another.jpg", "captions": ["another"]}])


@pytest.mark.parametrize("name", ["coco", "coco_val2017", "flickr", "nocaps", "flickr8k_expert"])
def test_a_list_that_differs_is_reported_before_anything_is_placed(tmp_path, roots, run, name):
    source = tmp_path / "from"
    coco_folder(source, {1: 5, 2: 5}, {})
    put(source / "captions_val2017.json", coco_style({9: coco_name(9, "val2017")}))
    pictures(source / "val2017", [coco_name(9, "val2017")])
    flickr_folder(source, {"1.jpg": "test", "2.jpg": "test"})
    put(source / "nocaps_val_4500_captions.json", nocaps_rows(OPEN_IMAGES))
    pictures(source / "val", [f"{name}.jpg" for name in OPEN_IMAGES.values()])
    flickr8k_texts(source)
    command = {"coco_val2017": ["coco", "--split", "val2017"], "flickr": ["flickr30k"]}.get(name, [name])
    path = differing_list(roots, name)
    before = path.read_bytes()
    status, _, err = run(*command, "--from", source)
    assert status == 2
    assert f"{path}: exists and differs" in err
    assert files_below(roots.main) + files_below(roots.sub) == [path]
    path.write_bytes(b"\xff\xfe no text")
    assert f"{path}: exists and differs" in run(*command, "--from", source)[2]
    path.write_bytes(before)
    assert f"{path}: written" in run(*command, "--from", source, "--overwrite")[1]
    assert len(files_below(roots.main) + files_below(roots.sub)) > 1


def test_an_image_that_differs_is_reported_before_anything_is_placed(tmp_path, roots, run):
    other = put(picture_folder("flickr", roots.sub) / "2.jpg", "not the same image")
    status, _, err = run("flickr30k", "--from", flickr_folder(tmp_path / "f", {"1.jpg": "test", "2.jpg": "test"}))
    assert status == 2
    assert f"{other}: exists, and is not" in err
    assert files_below(roots.sub) == [other]

    other = put(list_file("birdsnap", roots.main) / "Anhinga" / "2.jpg", "not the same image")
    pictures(tmp_path / "birds" / "test" / "Anhinga", ["1.jpg", "2.jpg"])
    assert f"{other}: exists, and is not" in run("birdsnap", "--from", tmp_path / "birds")[2]
    assert list((list_file("birdsnap", roots.main)).rglob("*")) == [other.parent, other]

    other = put(list_file("sharegpt4v", roots.main), "not the same list")
    assert f"{other}: exists, and is not" in run("sharegpt4v", "--from", sharegpt4v_folder(tmp_path / "share"))[2]
    assert not (picture_folder("sharegpt4v", roots.main)).exists()


def test_a_list_that_says_the_same_is_left_as_it_is(tmp_path, roots, run):
    source = flickr_folder(tmp_path / "flickr", {"1.jpg": "test"})
    run("flickr30k", "--from", source)
    gold = list_file("flickr", roots.sub)
    text = json.dumps(json.loads(gold.read_text()), indent=8)
    gold.write_text(text)
    assert "unchanged" in run("flickr30k", "--from", source)[1]
    assert gold.read_text() == text


# --- NoCaps ----------------------------------------------------------------------------------

OPEN_IMAGES = {5: "0013ea2087020901", 0: "00a159a661a2f5aa", 8: "00a1e3b5d3ba1d6c"}


def test_nocaps_captions_come_in_the_order_of_the_images(tmp_path, roots, run):
    content = nocaps_rows(OPEN_IMAGES)
    put(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", content)
    pictures(tmp_path / "nocaps" / "val", [f"{name}.jpg" for name in OPEN_IMAGES.values()])
    _, out, _ = run("nocaps", "--from", tmp_path / "nocaps")
    assert "30 captions, put in order" in out
    assert "nocaps: 3 of 4500 images, 30 of 45000 captions" in out
    written = json.loads(list_file("nocaps", roots.sub).read_text())
    assert [image["id"] for image in written["images"]] == [5, 0, 8]
    assert [row["image_id"] for row in written["annotations"]] == [5] * 10 + [0] * 10 + [8] * 10
    key = lambda row: row["id"]  # noqa: E731
    assert sorted(written["annotations"], key=key) == sorted(content["annotations"], key=key)
    assert {name: written[name] for name in ("info", "licenses")} == {
        name: content[name] for name in ("info", "licenses")
    }
    assert read("nocaps", roots.sub).captions == [five(f"{name}.jpg", 10) for name in OPEN_IMAGES.values()]
    assert (
        "already in the order"
        in run("nocaps", "--from", list_file("nocaps", roots.sub).parent, "--images", tmp_path / "nocaps" / "val")[1]
    )


def test_nocaps_with_ids_as_strings_among_the_captions_is_prepared_alike(tmp_path, roots, run):
    content = nocaps_rows(OPEN_IMAGES)
    content["annotations"] = [{**row, "image_id": str(row["image_id"])} for row in content["annotations"]]
    put(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", content)
    pictures(tmp_path / "nocaps" / "val", [f"{name}.jpg" for name in OPEN_IMAGES.values()])
    assert "30 captions, put in order" in run("nocaps", "--from", tmp_path / "nocaps")[1]
    assert read("nocaps", roots.sub).captions == [five(f"{name}.jpg", 10) for name in OPEN_IMAGES.values()]


def test_an_empty_caption_is_not_prepared(tmp_path, roots, run):
    content = nocaps_rows(OPEN_IMAGES)
    content["annotations"][4]["caption"] = " "
    put(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", content)
    status, _, err = run("nocaps", "--from", tmp_path / "nocaps")
    assert status == 2
    assert '"annotations"[4]: "caption" is " ", not a text with words' in err


def test_nocaps_images_are_found_by_each_of_their_names(tmp_path, roots, run):
    content = nocaps_rows(OPEN_IMAGES)
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"val_{number}.jpg"  # the copy names two by their Open Images id, one by the address
    content["images"][2]["open_images_id"] = "unknown"
    put(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", content)
    pictures(tmp_path / "nocaps" / "validation", [f"{name}.jpg" for name in OPEN_IMAGES.values()])
    assert "images linked: 3" in run("nocaps", "--from", tmp_path / "nocaps")[1]
    links = [path.resolve().stem for path in read("nocaps", roots.sub).images]
    assert links == list(OPEN_IMAGES.values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content["annotations"].pop(), "has 9 captions, NoCaps has 10 of each"),
        (lambda content: content.pop("annotations"), 'has no "annotations"'),
        (
            lambda content: content["annotations"].append({"id": 1, "image_id": 77, "caption": "a"}),
            "is of image '77', which the file does not list",
        ),
        (lambda content: content["annotations"][3].pop("caption"), 'has no "caption"'),
        (lambda content: content["annotations"][3].pop("image_id"), '"annotations"[3]: has no "image_id"'),
        (lambda content: content["images"][1].pop("file_name"), '"images"[1]: has no "file_name"'),
    ],
)
def test_a_nocaps_file_of_another_form_is_refused(tmp_path, roots, run, spoil, message):
    content = nocaps_rows(OPEN_IMAGES)
    spoil(content)
    path = put(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", content)
    pictures(tmp_path / "nocaps" / "val", [f"{name}.jpg" for name in OPEN_IMAGES.values()])
    status, _, err = run("nocaps", "--from", tmp_path / "nocaps")
    assert status == 2
    assert message in err
    assert str(path) in err
    assert files_below(roots.sub) == []


# --- ShareGPT4V ------------------------------------------------------------------------------

RECORDS = "share-captioner_coco_lcs_sam_1246k_1107.json"
LONG = [
    "sam/images/sa_1.jpg",
    "coco/train2017/1.jpg",
    "llava/llava_pretrain/images/00453/4.jpg",
    "coco/train2017/2.jpg",
]


def sharegpt4v_folder(folder: Path, *missing: str) -> Path:
    put(folder / RECORDS, [long_record(image) for image in LONG])
    pictures(folder / "data", [image for image in LONG if image not in missing])
    return folder


def test_sharegpt4v_links_whole_folders(tmp_path, roots, run):
    source = sharegpt4v_folder(tmp_path / "share")
    status, out, _ = run("sharegpt4v", "--from", source)
    assert status == 1
    assert "sharegpt4v: 4 of 1246000-1246999 images, 4 of 1246000-1246999 captions: partial" in out
    assert "missing" not in out
    for place in ("coco/train2017", "llava/llava_pretrain/images", "sam/images"):
        assert (picture_folder("sharegpt4v", roots.main) / place).is_symlink()
    assert (list_file("sharegpt4v", roots.main)).is_symlink()
    assert len(read("sharegpt4v", roots.main).images) == 4
    assert out.count("already there") == 0
    assert run("sharegpt4v", "--from", source)[1].count("already there") == 4


def test_sharegpt4v_says_which_folders_lack_images(tmp_path, roots, run):
    source = sharegpt4v_folder(tmp_path / "share", LONG[0], LONG[3])
    status, out, _ = run("sharegpt4v", "--from", source)
    assert status == 1
    assert "2 of the 4 images it lists are missing, first " in out
    assert "(1 of sam, 1 of coco)" in out
    pictures(source / "data", LONG)
    assert "missing" not in run("sharegpt4v", "--from", source)[1]
    shutil.rmtree(source / "data" / "sam")
    status, out, _ = run("sharegpt4v", "--from", source, "--allow-partial")
    assert status == 0
    assert "(1 of sam)" in out


def test_sharegpt4v_takes_folders_as_their_archives_unpack(tmp_path, roots, run):
    source = sharegpt4v_folder(tmp_path / "share", *LONG)
    pictures(source / "train2017", ["1.jpg", "2.jpg"])
    pictures(source / "LLaVA-Pretrain" / "images", ["00453/4.jpg"])
    pictures(source / "sam" / "images", ["sa_1.jpg"])
    assert "sharegpt4v: 4 of" in run("sharegpt4v", "--from", source)[1]


def test_sharegpt4v_is_streamed_and_its_errors_name_the_record(tmp_path, roots, run, monkeypatch):
    source = sharegpt4v_folder(tmp_path / "share")
    path = source / RECORDS
    text, parse = path.read_text(), json.loads
    whole = len(text)
    monkeypatch.setattr(
        json, "loads", lambda part, **how: parse(part, **how) if len(part) < whole else pytest.fail("loaded whole")
    )
    assert run("sharegpt4v", "--from", source)[0] == 1
    for content, message in (
        (text[: text.index("llava") + 40], "(the ShareGPT4V captions) at record 2"),
        ('{"images": []}', "not a JSON list of records"),
        ("[]", "list of records"),
        (text.replace('"conversations"', '"talk"'), "record 0 is not in ShareGPT4V's form"),
    ):
        path.write_text(content)
        status, _, err = run("sharegpt4v", "--from", source)
        assert status == 2
        assert message in err
        assert RECORDS in err


# --- where to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), [("flickr30k", "subroot.txt"), ("birdsnap", "root.txt")])
def test_empty_path_files_say_where_to_write_and_touch_no_sample(tmp_path, monkeypatch, capsys, name, file):
    monkeypatch.setenv("I0T_CONFIGS", str(tmp_path))
    monkeypatch.setattr("i0t.data.sample.make_sample", lambda *_: pytest.fail("the sample was made"))
    assert prepare([name, "--from", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / file}: empty" in err
    assert "--data-dir" in err


def test_the_built_in_sample_is_not_written_into(tmp_path, sample_roots, capsys):
    flags = ["--data-dir", str(sample_roots.main), "--data-dir-sub", str(sample_roots.sub)]
    assert prepare(["flickr30k", "--from", str(tmp_path), *flags]) == 2
    assert "belongs to the built-in sample" in capsys.readouterr().err


def test_bad_flags_are_reported_in_one_line(tmp_path, run):
    assert "--from FOLDER" in run("nocaps")[2]
    assert "no such folder" in run("nocaps", "--from", tmp_path / "gone")[2]
    assert "flickr30k has test, val" in run("flickr30k", "--from", tmp_path, "--split", "train")[2]
    assert "holds neither dataset_flickr30k.json nor" in run("flickr30k", "--from", tmp_path)[2]
