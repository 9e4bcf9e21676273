"""Where training pairs come from: the caption index, the plan of batches, shards, unreadable pictures.

Run: python -m pytest tests/test_training_data.py
"""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import re
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from i0t import I0TError
from i0t.data import caption_index
from i0t.data.caption_index import index_path, open_index
from i0t.data.datasets import DATASETS
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.training.__main__ import main as train
from i0t.training.pairs import BatchPlan, DiskPairs, Feed, readable
from i0t.training.shard_pairs import ShardPairs

TALK = [{"from": "human", "value": "What?"}]


def write_json(folder: Path, count: int, missing: int = 0, corrupt: tuple[int, ...] = ()) -> Path:
    """`count` records with one-colour pictures; the last ones are missing, some damaged."""
    records = []
    for row in range(count):
        name = f"coco/train2017/{row:03d}.png"
        records.append({"image": name, "conversations": [*TALK, {"from": "gpt", "value": f"Picture {row}. More."}]})
        path = folder / "sharegpt4v" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if row < count - missing:
            Image.new("RGB", (4, 4), (row, 0, 0)).save(path)
        if row in corrupt:
            path.write_bytes(path.read_bytes()[:20])
    (folder / DATASETS["sharegpt4v"].file).write_text(json.dumps(records))
    return folder / DATASETS["sharegpt4v"].file


def preprocess(image: Image.Image) -> torch.Tensor:
    """The red value alone: which picture this is."""
    return torch.tensor(image.getpixel((0, 0))[0])


def tokenize(texts: list[str]) -> torch.Tensor:
    """The number in the caption."""
    return torch.tensor([int("".join(filter(str.isdigit, text))) for text in texts])


def feed(**changes: object) -> Feed:
    plain = Feed(preprocess, tokenize, False, batch_size=4, first_step=0, total_steps=10, seed=3)
    return replace(plain, **changes)


# --- the index -------------------------------------------------------------------------------


def test_index_is_read_once_and_made_again_when_the_file_changes(tmp_path, monkeypatch):
    source = write_json(tmp_path, 12)
    first = open_index(source)
    assert (len(first), first.captions[3].as_py()) == (12, "Picture 3. More.")
    monkeypatch.setattr(caption_index.ijson, "items", lambda *_, **__: pytest.fail("parsed again"))
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
    ],
)
def test_damaged_index_is_made_again(tmp_path, damage):
    source = write_json(tmp_path, 12)
    path = open_index(source).path
    whole = path.read_bytes()
    spoilt = damage(whole)
    assert spoilt != whole
    path.unlink()  # a file that is still mapped must not change
    path.write_bytes(spoilt)
    assert len(open_index(source)) == 12
    assert path.read_bytes() == whole


def test_index_of_a_folder_that_cannot_be_written_lies_under_tensors(tmp_path, monkeypatch):
    source = write_json(tmp_path, 12)
    monkeypatch.setattr(caption_index, "TENSORS", tmp_path / "tensors")
    source.parent.chmod(0o555)
    try:
        assert len(open_index(source)) == 12
        assert index_path(source).parent == tmp_path / "tensors" / "index"
        assert index_path(source).is_file()
    finally:
        source.parent.chmod(0o755)


def test_malformed_record_is_named_by_number(tmp_path):
    source = write_json(tmp_path, 12)
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


def test_pairs_travel_to_workers_by_name(tmp_path):
    """A worker that inherits nothing opens the index again instead of getting its content."""
    write_json(tmp_path, 2_000)
    pairs = load_sharegpt4v(tmp_path, "train")
    copied = pickle.dumps(pairs)
    assert len(copied) < 40_000  # 1 800 row numbers, no captions
    assert pickle.loads(copied).captions[5] == pairs.captions[5]


def test_missing_pictures_are_an_error_with_the_first_ten_or_are_left_out(tmp_path):
    write_json(tmp_path, 40, missing=12)
    with pytest.raises(I0TError, match="12 of the 36 pictures it lists are missing") as error:
        load_sharegpt4v(tmp_path, "train")
    assert "028.png" in str(error.value) and "037.png" in str(error.value)
    assert "038.png" not in str(error.value)
    pairs = load_sharegpt4v(tmp_path, "train", skip_missing=True)
    assert len(pairs) == 24
    assert len(pairs.missing) == 12
    write_json(tmp_path, 40, missing=11)
    assert load_sharegpt4v(tmp_path, "train", skip_missing=True).digest != pairs.digest


def test_list_of_missing_pictures_is_written(configs, tmp_path, sample_roots, capsys):
    import shutil

    shutil.copytree(sample_roots.main, tmp_path / "main")
    picture = sorted((tmp_path / "main" / "sharegpt4v/data/coco/train2017").iterdir())[-1]
    picture.unlink()
    flags = ["--base", "tiny", "--data-dir", str(tmp_path / "main"), "--output", str(tmp_path / "out")]
    flags += ["--workers", "0", "steps=1", "batch_size=8", "validate_every=0"]
    assert train(flags) == 2
    assert picture.name in capsys.readouterr().err
    assert train([*flags, "--skip-unreadable"]) == 0
    (written,) = (tmp_path / "out").glob("missing-pictures-*.txt")
    assert written.read_text() == f"coco/train2017/{picture.name}\n"


# --- the plan --------------------------------------------------------------------------------


def test_every_epoch_has_each_pair_once_in_another_order():
    plan = list(BatchPlan(13, feed(total_steps=6)))  # 3 batches of 4 an epoch, one pair left over
    assert [len(batch) for batch in plan] == [4] * 6
    epochs = [sum(plan[:3], []), sum(plan[3:], [])]
    assert all(max(Counter(epoch).values()) == 1 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert plan != list(BatchPlan(13, feed(total_steps=6, seed=4)))


def test_plan_begun_later_is_the_rest_of_the_plan():
    whole = list(BatchPlan(13, feed()))
    for first in (1, 3, 7):
        assert list(BatchPlan(13, feed(first_step=first))) == whole[first:]


def test_processes_share_every_batch_in_order():
    whole = list(BatchPlan(13, feed()))
    parts = [list(BatchPlan(13, feed(process=number, processes=2))) for number in (0, 1)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_pictures_with_their_own_captions(tmp_path, workers):
    write_json(tmp_path, 40)
    source = DiskPairs(load_sharegpt4v(tmp_path, "train"))
    batches = list(readable(source.batches(feed(workers=workers, short_captions=True))))
    assert len(batches) == 10
    plan = [[row + 4 for row in rows] for rows in BatchPlan(36, feed())]  # the first four are validation
    for batch, rows in zip(batches, plan, strict=True):
        long, short = batch["tokens"]
        assert batch["pixels"].tolist() == long.tolist() == short.tolist() == rows


def test_unreadable_picture_stops_the_run_or_gives_its_place_to_the_next(tmp_path):
    write_json(tmp_path, 40, corrupt=(20, 21))
    source = DiskPairs(load_sharegpt4v(tmp_path, "train"))
    with pytest.raises(I0TError, match=r"02[01]\.png: unreadable picture"):
        list(readable(source.batches(feed())))
    batches = list(readable(source.batches(feed(skip_unreadable=True, total_steps=9))))
    assert sum(len(batch["errors"]) for batch in batches) == 3  # 20 tries 21 as well
    seen = sum((batch["pixels"].tolist() for batch in batches), [])
    assert len(seen) == 36 and not {20, 21} & set(seen)
    assert seen == sum((batch["tokens"][0].tolist() for batch in batches), [])


# --- shards ----------------------------------------------------------------------------------


def write_shards(
    folder: Path, shards: int = 5, samples: int = 6, spoil: int | None = None, texts: dict[int, bytes] | None = None
) -> str:
    """Shards of one-colour pictures, numbered through, `texts` some of their own; the `{a..b}` name of them all."""
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in range(shard * samples, (shard + 1) * samples):
                stream = io.BytesIO()
                Image.new("RGB", (4, 4), (row, 0, 0)).save(stream, "png")
                picture = b"no picture" if row == spoil else stream.getvalue()
                caption = (texts or {}).get(row, f"Picture\n{row}".encode())
                for suffix, data in (("png", picture), ("txt", caption)):
                    info = tarfile.TarInfo(f"{row:04d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder / f"{{00000..{shards - 1:05d}}}.tar")


def rows_of(source: ShardPairs, run: Feed, count: int) -> list[list[int]]:
    batches = list(islice(readable(source.batches(run)), count))
    assert all(batch["pixels"].tolist() == batch["tokens"][0].tolist() for batch in batches)
    return [batch["pixels"].tolist() for batch in batches]


def test_shards_give_every_pair_once_an_epoch_and_keep_the_first_for_validation(tmp_path):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    first, second = (
        sorted(sum(rows, [])) for rows in (lambda b: (b[:6], b[6:]))(rows_of(source, feed(total_steps=12), 12))
    )
    assert first == second == list(range(6, 30))
    validation = source.validation(tmp_path / "unpacked")
    assert validation.captions == [f"Picture {row}" for row in range(6)]
    assert [Image.open(path).getpixel((0, 0))[0] for path in validation.images] == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [1, 3, 4])
def test_shards_resumed_are_the_rest_of_the_run(tmp_path, workers, first):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    whole = rows_of(source, feed(workers=workers), 10)
    assert len(whole) == 10
    assert rows_of(source, feed(workers=workers, first_step=first), 10) == whole[first:]


def test_processes_have_shards_of_their_own(tmp_path):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    both = [rows_of(source, feed(process=number, processes=2, total_steps=6), 6) for number in (0, 1)]
    seen = sum(both[0], []) + sum(both[1], [])
    assert sorted(seen) == list(range(6, 30))


def test_shards_that_cannot_do_are_told(tmp_path):
    pattern = write_shards(tmp_path / "s", spoil=10)
    with pytest.raises(I0TError, match="1 shard; the first is for validation"):
        ShardPairs(str(tmp_path / "s" / "00000.tar"), 6)
    source = ShardPairs(pattern, 24)
    with pytest.raises(I0TError, match="4 training shards are fewer than 1 processes x 5 workers.*--workers 4"):
        next(source.batches(feed(workers=5)))
    with pytest.raises(I0TError, match="sample 0010: unreadable picture"):
        rows_of(source, feed(), 10)
    seen = sum(rows_of(source, feed(skip_unreadable=True, total_steps=5), 5), [])
    assert len(seen) == 20 and 10 not in seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda path: path.write_text("<html>404</html>" * 100), "invalid header"),
        (lambda path: path.write_bytes(path.read_bytes()[:2600]), "unexpected end of data"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(600)), ""),
    ],
)
def test_bad_shard_stops_the_run_in_one_line_that_names_it(tmp_path, workers, spoil, message):
    pattern = write_shards(tmp_path / "s", spoil=10)  # and a picture that is left out, which is not the reason
    spoil(tmp_path / "s" / "00003.tar")
    for first in (0, 4):  # a resumed run meets it while it reads past what it has had
        run = feed(skip_unreadable=True, workers=workers, first_step=first)
        with pytest.raises(I0TError) as caught:
            rows_of(ShardPairs(pattern, 24), run, 10)
        assert not multiprocessing.active_children()  # one that is left would keep the program from ending
        assert re.fullmatch(
            rf"{tmp_path}/s/00003\.tar: the shard cannot be read \(.*{message}.*\)\. .*", str(caught.value)
        )


def test_failed_command_of_a_shard_is_told(tmp_path):
    source = ShardPairs(f"pipe:cat {tmp_path}/{{0..2}}.tar 2>&-", 24)
    with pytest.raises(
        I0TError, match=r"^pipe:cat .*/0\.tar 2>&-: the shard cannot be read \((.*exit 1 .*|empty file)\)\. "
    ):
        source.validation(tmp_path / "unpacked")


@pytest.mark.parametrize("workers", [0, 1])
def test_caption_that_is_not_utf8_is_an_unreadable_sample(tmp_path, workers):
    pattern = write_shards(tmp_path / "s", texts={2: "Caf\xe9 2".encode("latin-1"), 9: "Caf\xe9 9".encode("latin-1")})
    source = ShardPairs(pattern, 24)
    with pytest.raises(I0TError, match=r"^.*/00001\.tar: sample 0009: its txt is not UTF-8 .* byte 3\).*--skip-unread"):
        rows_of(source, feed(workers=workers), 10)
    seen = sum(rows_of(source, feed(skip_unreadable=True, workers=workers, total_steps=5), 5), [])
    assert len(seen) == 20 and 9 not in seen
    with pytest.raises(I0TError, match=r"^.*/00000\.tar: sample 0002: its txt is not UTF-8 .*\. Write it as UTF-8\.$"):
        source.validation(tmp_path / "unpacked")


def test_shards_without_any_good_sample_do_not_loop_for_ever(tmp_path):
    empty = write_shards(tmp_path / "empty", samples=0)
    with pytest.raises(I0TError, match=r"00004\.tar.*: no sample in 4 shards"):
        rows_of(ShardPairs(empty, 24), feed(), 1)
    bad = write_shards(tmp_path / "bad", texts=dict.fromkeys(range(30), b"\xe9"))
    with pytest.raises(I0TError, match=r"^100 samples in a row cannot be read\. The last one: .*not UTF-8"):
        rows_of(ShardPairs(bad, 24), feed(skip_unreadable=True), 1)


FAILS_IN_A_WORKER = """
from i0t.training.pairs import DiskPairs, Feed

class Bug:
    def image(self, row): raise RuntimeError("a bug")
    def __len__(self): return 8

batches = DiskPairs(Bug()).batches(Feed(None, None, False, 4, 0, 2, seed=0, workers=1))
next(batches)
"""


def test_program_ends_when_a_worker_fails():
    """Workers ignore SIGTERM, with which Python ends its children."""
    done = subprocess.run([sys.executable, "-c", FAILS_IN_A_WORKER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a bug" in done.stderr


@pytest.mark.slow
def test_training_from_shards(configs, tmp_path, sample_roots):
    """The program end to end, with the sample's pictures in shards."""
    pairs = load_sharegpt4v(sample_roots.data_dir, "train")
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for row in range(shard * 20, shard * 20 + 20):
                for suffix, data in (("jpg", pairs.images[row].read_bytes()), ("txt", pairs.captions[row].encode())):
                    info = tarfile.TarInfo(f"{row:04d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    flags = ["--recipe", "lcco", "--base", "tiny", "--output", str(tmp_path / "out"), "--workers", "0", "steps=2"]
    assert train([*flags, "batch_size=8", f"shards={tmp_path}/{{0..2}}.tar", "shard_pairs=40"]) == 0
    assert len(list((tmp_path / "out" / "validation").rglob("*.jpg"))) == 20
