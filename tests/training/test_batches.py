"""Batches of images on disk: the order of the pairs, unreadable and missing images, workers that fail.

Run: python -m pytest tests/training/test_batches.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter

import pytest
from numbered_pairs import options, write_sharegpt4v

from i0t import I0TError
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.training.__main__ import main as train
from i0t.training.batches import DiskPairs, ResumableBatchSampler, readable


def test_every_epoch_has_each_pair_once_in_another_order():
    plan = list(ResumableBatchSampler(13, options(total_steps=6)))  # 3 batches of 4 an epoch, one pair left over
    assert [len(batch) for batch in plan] == [4] * 6
    epochs = [sum(plan[:3], []), sum(plan[3:], [])]
    assert all(max(Counter(epoch).values()) == 1 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert plan != list(ResumableBatchSampler(13, options(total_steps=6, seed=4)))


def test_plan_begun_later_is_the_rest_of_the_plan():
    whole = list(ResumableBatchSampler(13, options()))
    for first in (1, 3, 7):
        assert list(ResumableBatchSampler(13, options(first_step=first))) == whole[first:]


def test_processes_share_every_batch_in_order():
    whole = list(ResumableBatchSampler(13, options()))
    parts = [list(ResumableBatchSampler(13, options(process=number, processes=2))) for number in (0, 1)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_images_with_their_own_captions(tmp_path, workers):
    write_sharegpt4v(tmp_path, 40)
    source = DiskPairs(load_sharegpt4v(tmp_path, "train"))
    batches = list(readable(source.batches(options(workers=workers, short_captions=True))))
    assert len(batches) == 10
    plan = [[row + 4 for row in rows] for rows in ResumableBatchSampler(36, options())]  # the first four are validation
    for batch, rows in zip(batches, plan, strict=True):
        long, short = batch["tokens"]
        assert batch["pixels"].tolist() == long.tolist() == short.tolist() == rows


def test_unreadable_image_stops_the_run_or_gives_its_place_to_the_next(tmp_path):
    write_sharegpt4v(tmp_path, 40, corrupt=(20, 21))
    source = DiskPairs(load_sharegpt4v(tmp_path, "train"))
    with pytest.raises(I0TError, match=r"02[01]\.png: unreadable image"):
        list(readable(source.batches(options())))
    batches = list(readable(source.batches(options(skip_unreadable=True, total_steps=9))))
    assert sum(len(batch["errors"]) for batch in batches) == 3  # 20 tries 21 as well
    seen = sum((batch["pixels"].tolist() for batch in batches), [])
    assert len(seen) == 36 and not {20, 21} & set(seen)
    assert seen == sum((batch["tokens"][0].tolist() for batch in batches), [])


def test_list_of_missing_images_is_written(configs, tmp_path, sample_roots, capsys):
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


FAILS_IN_A_WORKER = """
from i0t.training.batches import BatchOptions, DiskPairs

class Bug:
    digest = ""
    @property
    def images(self): raise RuntimeError("a bug")
    def __len__(self): return 8

batches = DiskPairs(Bug()).batches(BatchOptions(None, None, False, 4, 0, 2, seed=0, workers=1))
next(batches)
"""


def test_program_ends_when_a_worker_fails():
    """Workers ignore SIGTERM, with which Python ends its children."""
    done = subprocess.run([sys.executable, "-c", FAILS_IN_A_WORKER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a bug" in done.stderr
