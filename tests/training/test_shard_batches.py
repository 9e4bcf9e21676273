"""Batches of WebDataset shards: every pair once per epoch, exact resuming, damaged shards and samples.

Run: python -m pytest tests/training/test_shard_batches.py
"""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import re
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from numbered_pairs import options
from PIL import Image

from i0t import I0TError
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.training.__main__ import main as train
from i0t.training.batches import BatchOptions, readable
from i0t.training.shard_batches import ShardPairs
from i0t.training.shards import image_and_caption


def write_shards(
    folder: Path,
    shards: int = 5,
    samples: int = 6,
    spoil: int | None = None,
    texts: dict[int, bytes] | None = None,
    key: Callable[[int], str] = "{:04d}".format,
    first_row: int = 0,
) -> str:
    """Write shards of numbered one-colour images, some with their own `texts`; return the `{a..b}` name of all."""
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in range(first_row + shard * samples, first_row + (shard + 1) * samples):
                stream = io.BytesIO()
                Image.new("RGB", (4, 4), (row, 0, 0)).save(stream, "png")
                picture = b"no image" if row == spoil else stream.getvalue()
                caption = (texts or {}).get(row, f"Picture\n{row}".encode())
                for suffix, data in (("png", picture), ("txt", caption)):
                    info = tarfile.TarInfo(f"{key(row)}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder / f"{{00000..{shards - 1:05d}}}.tar")


def rows_of(source: ShardPairs, run: BatchOptions, count: int) -> list[list[int]]:
    batches = list(islice(readable(source.batches(run)), count))
    assert all(batch["pixels"].tolist() == batch["tokens"][0].tolist() for batch in batches)
    return [batch["pixels"].tolist() for batch in batches]


def test_shards_give_every_pair_once_per_epoch_and_keep_the_first_for_validation(tmp_path):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    first, second = (
        sorted(sum(rows, [])) for rows in (lambda b: (b[:6], b[6:]))(rows_of(source, options(total_steps=12), 12))
    )
    assert first == second == list(range(6, 30))
    validation = source.validation(tmp_path / "unpacked")
    assert validation.captions == [f"Picture {row}" for row in range(6)]
    assert [Image.open(path).getpixel((0, 0))[0] for path in validation.images] == list(range(6))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [1, 3, 4])
def test_shards_resumed_are_the_rest_of_the_run(tmp_path, workers, first):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    whole = rows_of(source, options(workers=workers), 10)
    assert len(whole) == 10
    assert rows_of(source, options(workers=workers, first_step=first), 10) == whole[first:]


def test_processes_have_shards_of_their_own(tmp_path):
    source = ShardPairs(write_shards(tmp_path / "s"), 24)
    both = [rows_of(source, options(process=number, processes=2, total_steps=6), 6) for number in (0, 1)]
    seen = sum(both[0], []) + sum(both[1], [])
    assert sorted(seen) == list(range(6, 30))


def test_shards_that_cannot_be_used_are_reported(tmp_path):
    pattern = write_shards(tmp_path / "s", spoil=10)
    with pytest.raises(I0TError, match="1 shard; the first is for validation"):
        ShardPairs(str(tmp_path / "s" / "00000.tar"), 6)
    with pytest.raises(I0TError, match="00000.tar is listed 2 times"):
        ShardPairs(str(tmp_path / "s" / "{00000,00001,00000}.tar"), 6)
    source = ShardPairs(pattern, 24)
    with pytest.raises(I0TError, match="4 training shards are fewer than 1 processes x 5 workers.*--workers 4"):
        next(source.batches(options(workers=5)))
    with pytest.raises(I0TError, match="sample 0010: unreadable image"):
        rows_of(source, options(), 10)
    seen = sum(rows_of(source, options(skip_unreadable=True, total_steps=5), 5), [])
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
    pattern = write_shards(tmp_path / "s", spoil=10)  # and an image that is left out, which is not the reason
    spoil(tmp_path / "s" / "00003.tar")
    for first in (0, 4):  # a resumed run meets it while it reads past what it has had
        run = options(skip_unreadable=True, workers=workers, first_step=first)
        with pytest.raises(I0TError) as caught:
            rows_of(ShardPairs(pattern, 24), run, 10)
        assert not multiprocessing.active_children()  # one that is left would keep the program from ending
        assert re.fullmatch(
            rf"{tmp_path}/s/00003\.tar: the shard cannot be read \(.*{message}.*\)\. .*", str(caught.value)
        )


BLOCK = 512  # a header, or a part of a file, in a tar


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        # two samples have eight blocks: header and content of png and txt, each
        (lambda whole: whole[: 8 * BLOCK], r"ends without an end-of-archive block at byte 4096"),
        (lambda whole: whole[: 8 * BLOCK + 99], r"truncated header at byte 4096"),
        (lambda whole: whole[: 9 * BLOCK + 9], r"unexpected end of data at byte 4608"),
        (lambda whole: whole[: 8 * BLOCK + 3] + b"\1" + whole[8 * BLOCK + 4 :], r"bad checksum at byte 4096"),
        (lambda whole: whole[: 8 * BLOCK] + bytes(BLOCK) + whole[9 * BLOCK :], r"more data behind .* at byte 4096"),
        (lambda whole: whole * 2, r"more data behind an end-of-archive block at byte 12288"),
        (lambda whole: gzip.compress(whole)[:-60], r"ends without|truncated header|unexpected end"),
    ],
    ids=["between_members", "in_a_header", "in_a_file", "flipped_header", "zeroed_header", "joined", "cut_gzip"],
)
def test_damaged_shard_is_no_short_shard(tmp_path, damage, message):
    """The library tarfile takes all but the third for the end of the archive."""
    pattern = write_shards(tmp_path / "s")
    path = tmp_path / "s" / "00002.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(I0TError, match=rf"/00002\.tar: the shard cannot be read \(.*({message}).*\)\. Make or copy"):
        rows_of(ShardPairs(pattern, 24), options(), 10)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("stated", "said"), [(30, "hold 24 pairs"), (20, "hold (24|2[1-3] pairs or more)")])
def test_number_of_pairs_is_compared_with_what_was_read(tmp_path, workers, stated, said):
    source = ShardPairs(write_shards(tmp_path / "s"), stated)
    rows_of(source, options(workers=workers), 10)
    with pytest.raises(I0TError, match=rf"shard_pairs={stated}, but the training shards .*/00001\.tar.* {said}"):
        source.check()
    right = ShardPairs(write_shards(tmp_path / "s"), 24)
    rows_of(right, options(workers=workers, first_step=3), 7)  # also of a run that goes on
    right.check()


def test_validation_pictures_are_those_of_the_shard_and_keys_stay_apart(tmp_path):
    """In an older version the first pictures of a name stayed, and a/b_c was the picture of a_b/c."""
    keys = ["a/b_c", "a_b/c", "a/b/c", "3", "4", "5"]
    for first in (0, 6):  # the first shard, then another of the same keys in its place
        pattern = write_shards(tmp_path / "s", key=lambda row: keys[row % 6], first_row=first)
        images = ShardPairs(pattern, 24).validation(tmp_path / "unpacked").images
        assert [Image.open(path).getpixel((0, 0))[0] for path in images] == list(range(first, first + 6))
    images[0].write_bytes(images[1].read_bytes())  # damaged meanwhile
    images = ShardPairs(pattern, 24).validation(tmp_path / "unpacked").images
    assert Image.open(images[0]).getpixel((0, 0))[0] == 6


def test_digest_of_shards_changes_with_their_files(tmp_path):
    pattern = write_shards(tmp_path / "s")
    first = ShardPairs(pattern, 24).digest
    assert ShardPairs(pattern, 24).digest == first
    os.utime(tmp_path / "s" / "00003.tar", ns=(1, 1))
    second = ShardPairs(pattern, 24).digest
    with (tmp_path / "s" / "00003.tar").open("ab") as stream:
        stream.write(bytes(BLOCK))
    os.utime(tmp_path / "s" / "00003.tar", ns=(1, 1))
    assert len({first, second, ShardPairs(pattern, 24).digest}) == 3
    remote = "pipe:aws s3 cp s3://bucket/{0..3}.tar -"  # of which only the name is known
    assert ShardPairs(remote, 24).digest == ShardPairs(remote, 24).digest


def test_damaged_caption_and_two_pictures_of_a_sample_are_named(tmp_path):
    source = ShardPairs(write_shards(tmp_path / "s", texts={2: b"Pic\0\0\0\0"}), 24)
    with pytest.raises(I0TError, match=r"00000\.tar: sample 0002: its txt is damaged: it has zero bytes"):
        source.validation(tmp_path / "unpacked")
    sample = {"__key__": "a", "__url__": "s.tar", "jpg": b"", "png": b"", "txt": b"A"}
    with pytest.raises(I0TError, match=r"s\.tar: sample a: has two images, jpg and png"):
        image_and_caption(sample)


def test_failed_command_of_a_shard_is_reported(tmp_path):
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
        rows_of(source, options(workers=workers), 10)
    seen = sum(rows_of(source, options(skip_unreadable=True, workers=workers, total_steps=5), 5), [])
    assert len(seen) == 20 and 9 not in seen
    with pytest.raises(I0TError, match=r"^.*/00000\.tar: sample 0002: its txt is not UTF-8 .*\. Write it as UTF-8\.$"):
        source.validation(tmp_path / "unpacked")


def test_empty_caption_of_a_shard_is_an_unreadable_sample_and_a_byte_order_mark_is_none(tmp_path):
    pattern = write_shards(tmp_path / "s", texts={1: b"\xef\xbb\xbfPicture 1", 9: b" \n"})
    source = ShardPairs(pattern, 24)
    assert source.validation(tmp_path / "unpacked").captions[1] == "Picture 1"
    with pytest.raises(I0TError, match=r"00001\.tar: sample 0009: its txt is empty.*--skip-unreadable"):
        rows_of(source, options(), 10)
    assert 9 not in sum(rows_of(source, options(skip_unreadable=True, total_steps=5), 5), [])


def test_shards_without_any_good_sample_do_not_loop_for_ever(tmp_path):
    empty = write_shards(tmp_path / "empty", samples=0)
    with pytest.raises(I0TError, match=r"00004\.tar.*: no sample in 4 shards"):
        rows_of(ShardPairs(empty, 24), options(), 1)
    bad = write_shards(tmp_path / "bad", texts=dict.fromkeys(range(30), b"\xe9"))
    with pytest.raises(I0TError, match=r"^100 samples in a row cannot be read\. The last one: .*not UTF-8"):
        rows_of(ShardPairs(bad, 24), options(skip_unreadable=True), 1)


@pytest.mark.slow
def test_training_from_shards(configs, tmp_path, sample_roots):
    """The program end to end, with the sample's images in shards."""
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
