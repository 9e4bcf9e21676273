"""The index of ShareGPT4V's long captions: read once, made again when it is damaged or the file changes.

Run: python -m pytest tests/data/test_caption_index.py
"""

from __future__ import annotations

import json
import os
import pickle

import pytest
from numbered_pairs import write_sharegpt4v

from i0t import I0TError
from i0t.data import caption_index
from i0t.data.caption_index import index_path, open_index
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.reading import json_list


def test_index_is_read_once_and_made_again_when_the_file_changes(tmp_path, monkeypatch):
    source = write_sharegpt4v(tmp_path, 12)
    first = open_index(source)
    assert (len(first), first.captions[3].as_py()) == (12, "Picture 3. More.")
    monkeypatch.setattr(caption_index, "json_list", lambda *_: pytest.fail("parsed again"))
    assert open_index(source).digest == first.digest
    monkeypatch.undo()
    source.write_text(source.read_text().replace("Picture 3.", "Picture three."))
    second = open_index(source)
    assert second.captions[3].as_py() == "Picture three. More."
    assert second.digest != first.digest


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"ARROW1 cut off",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\0" * len(whole),
        lambda whole: whole[:-100] + b"\0" * 90 + whole[-10:],  # the footer
        lambda whole: whole[:-10] + b"\xff\xff" + whole[-8:],  # and its length
        lambda whole: whole.replace(b'{"version"', b"{'version'"),  # our own header
        lambda whole: whole.replace(b'"sha256"', b'"sha257"'),
        lambda whole: whole.replace(b"Picture 7.", bytes(10)),  # a page that was never written: Arrow reads it
        lambda whole: whole.replace(b"Picture 7.", b"Picture 6."),
    ],
)
def test_damaged_index_is_made_again(tmp_path, damage):
    source = write_sharegpt4v(tmp_path, 12)
    path = open_index(source).path
    whole = path.read_bytes()
    spoilt = damage(whole)
    assert spoilt != whole
    path.unlink()  # a file that is still mapped must not change
    path.write_bytes(spoilt)
    assert len(open_index(source)) == 12
    assert path.read_bytes() == whole


def test_index_of_a_folder_that_cannot_be_written_lies_under_tensors(tmp_path, monkeypatch):
    source = write_sharegpt4v(tmp_path, 12)
    monkeypatch.setattr(caption_index, "TENSORS", tmp_path / "tensors")
    source.parent.chmod(0o555)
    try:
        assert len(open_index(source)) == 12
        assert index_path(source).parent == tmp_path / "tensors" / "index"
        assert index_path(source).is_file()
    finally:
        source.parent.chmod(0o755)


def test_malformed_record_is_named_by_number(tmp_path):
    source = write_sharegpt4v(tmp_path, 12)
    records = json.loads(source.read_text())
    whole = json.dumps(records)
    del records[7]["conversations"][1]["value"]
    source.write_text(json.dumps(records))
    with pytest.raises(I0TError, match="record 7 is not in ShareGPT4V's form"):
        open_index(source)
    assert not index_path(source).exists()
    source.write_text(whole[:-500])
    with pytest.raises(I0TError, match=r"not valid JSON .* at record \d"):
        open_index(source)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"What?"', "7" * 5_000, 1), r"at record 0: Exceeds the limit"),  # killed ijson
        (lambda text: "[" * 100_000, r"at record 0: it is nested too deeply"),  # took 22 GB
        (lambda text: f'[{{"a":{"[" * 100_000}', r"at record 0: it is nested too deeply"),
        (lambda text: text[:-1] + ",]", r"at record 12: Expecting value"),
        (lambda text: text[:-1] + "} ]", r"at record 12: '}' instead of a comma"),
        (lambda text: text[:-1], r"at record 12: the file is cut off"),
        (lambda text: text + text, r"at record 12: '\[' behind the end"),
        (lambda text: text.replace("Picture 5", "Picture \x01"), r"at record 5: Invalid control character"),
        (
            lambda text: text.replace('"from": "gpt"', '"from": "gpt", "from": "gpt"', 1),
            r'record 0: the key "from" is g',
        ),
        (lambda text: text.replace("/003.png", "/\\ud800.png"), r"record 3 is not in ShareGPT4V's form .*surrogates"),
        (lambda text: "[]", "the list of records is empty"),
        (lambda text: "{}", "not a JSON list of records in UTF-8 .the ShareGPT4V captions."),
        (lambda text: "[7]", "record 0 is not in ShareGPT4V's form"),
    ],
)
def test_damaged_json_is_one_line_that_names_the_record(tmp_path, damage, said):
    source = write_sharegpt4v(tmp_path, 12)
    source.write_text(damage(source.read_text()))
    with pytest.raises(I0TError, match=said) as error:
        open_index(source)
    assert len(str(error.value).splitlines()) == 1
    assert not index_path(source).exists()


def test_text_that_is_not_utf8_is_refused_and_half_a_surrogate_pair_is_written_as_it_can_be(tmp_path):
    source = write_sharegpt4v(tmp_path, 12)
    text = source.read_text()
    for encoding, said in (("utf-16", "UTF-8|utf-8"), ("latin-1", "at record 0: 'utf-8' codec can't decode")):
        source.write_bytes(text.replace("Picture 4", "Caf\xe9").encode(encoding))
        with pytest.raises(I0TError, match=said):
            open_index(source)
    source.write_text(text.replace("Picture 4", "Half \\ud83d"))
    assert open_index(source).captions[4].as_py() == "Half ?. More."


def test_records_do_not_depend_on_the_blocks_they_are_read_in(tmp_path, monkeypatch):
    source = write_sharegpt4v(tmp_path, 12)
    source.write_text(source.read_text().replace("Picture 4", "\u2014 \U0001f600"), encoding="utf-8-sig")
    whole = list(caption_index.stream_pairs(source))
    for size in (1, 7, 100):
        monkeypatch.setattr(json_list, "READ_BYTES", size)
        assert list(caption_index.stream_pairs(source)) == whole
    monkeypatch.setattr(json_list, "LONGEST_RECORD", 50)
    with pytest.raises(I0TError, match="at record 0"):
        list(caption_index.stream_pairs(source))


def test_pairs_travel_to_workers_by_name(tmp_path):
    """A spawned worker opens the index again instead of receiving its content."""
    write_sharegpt4v(tmp_path, 2_000)
    pairs = load_sharegpt4v(tmp_path, "train")
    copied = pickle.dumps(pairs)
    assert len(copied) < 40_000  # 1 800 row numbers, no captions
    assert pickle.loads(copied).captions[5] == pairs.captions[5]


def test_missing_images_are_an_error_with_the_first_ten_or_are_left_out(tmp_path):
    write_sharegpt4v(tmp_path, 40, missing=12)
    with pytest.raises(I0TError, match="12 of the 36 images it lists are missing") as error:
        load_sharegpt4v(tmp_path, "train")
    assert "028.png" in str(error.value) and "037.png" in str(error.value)
    assert "038.png" not in str(error.value)
    pairs = load_sharegpt4v(tmp_path, "train", skip_missing=True)
    assert len(pairs) == 24
    assert len(pairs.missing) == 12
    write_sharegpt4v(tmp_path, 40, missing=11)
    assert load_sharegpt4v(tmp_path, "train", skip_missing=True).digest != pairs.digest


def test_digest_changes_with_the_images_under_the_same_names(tmp_path):
    write_sharegpt4v(tmp_path, 40)
    first = load_sharegpt4v(tmp_path, "train")
    assert load_sharegpt4v(tmp_path, "train").digest == first.digest
    image, before = first.images[3], first.images[3].stat()
    image.write_bytes(image.read_bytes() + b"\0")
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    larger = load_sharegpt4v(tmp_path, "train").digest
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert len({first.digest, larger, load_sharegpt4v(tmp_path, "train").digest}) == 3
