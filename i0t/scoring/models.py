"""The model and the calibration pairs of `i0t score`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i0t.cli import usable_device
from i0t.data.captions import CaptionSet
from i0t.data.datasets import is_present, load_dataset
from i0t.data.items import Items
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.embeddings import Embeddings
from i0t.encoders import EncodeOptions, load_encoder
from i0t.errors import I0TError
from i0t.paths import TENSORS, Roots, last_checkpoint, read_path_file, say

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

SAMPLE = "sample"
TRAIN = "train"
DATASETS = ("flickr", "coco", "nocaps", TRAIN)  # in the order of preference for calibration: short captions first
# Of recipe lcco: enough to tell right captions from wrong.
BRIEF = {"steps": 100, "warmup_steps": 20, "validate_every": 0}


def scoring_model(
    name: str, roots: Roots, folder: Path, device: str | None = None, workers: int = 0, seed: int = 0
) -> tuple[Encoder, str]:
    """The model to score with, and what the user must know of it.

    Args:
        name: of `load_encoder`; or "sample": the last checkpoint, or where there is none the sample's small model,
            trained briefly, once.
        roots: where the files of specs and checkpoints lie.
        folder: where the briefly trained model is kept.
        device: as `usable_device` takes it.
        workers: decoding processes of the training.
        seed: of models without trained weights.

    Raises:
        I0TError: no such model.
    """
    import torch

    device = usable_device(device)
    torch.manual_seed(seed)
    if name != SAMPLE:
        is_untrained = name.partition(":")[0] == "tiny" or name.endswith("/random")
        return load_encoder(name, device, roots), "untrained: its scores are noise" if is_untrained else ""
    if read_path_file("ckpt_file_name.txt")[0]:
        return load_encoder(last_checkpoint(roots), device, roots), "the last checkpoint"
    path = _briefly_trained(folder, device, workers)
    note = (
        "trained for a minute on drawn shapes, it knows no others; for photographs: --model ViT-B-32-quickgelu/openai"
    )
    return load_encoder(path, device, roots), note


def _briefly_trained(folder: Path, device: str, workers: int) -> Path:
    """The sample's small model after a minute of training, kept for the next call; no note of it is made."""
    from i0t.data.sample import data_dir, data_dir_sub, make_sample
    from i0t.training.run import TrainOptions, train

    root = make_sample(TENSORS / "sample")
    if not any(folder.glob("lcco-*-last.safetensors")):
        say("no checkpoint yet: training the sample's small model once, a minute or two on two CPU cores")
    how = TrainOptions(recipe="lcco", base="tiny", overrides=BRIEF, output=folder, device=device, workers=workers)
    run = train(how, Roots(data_dir(root), data_dir_sub(root), is_sample=True))
    if run is None:
        raise I0TError("stopped by SIGTERM; the same command goes on with the training.")
    return run.last


def default_dataset(roots: Roots) -> str:
    """The first data set that is there to calibrate on.

    Raises:
        I0TError: none is.
    """
    for name in DATASETS:
        if is_present("sharegpt4v" if name == TRAIN else name, roots):
            return name
    raise I0TError("no data set to calibrate on in the path files' folders: name vectors with --calibrate-on FILE.")


def calibration_pairs(
    encoder: Encoder, dataset: str, roots: Roots, prefix: str, n_pairs: int, seed: int, options: EncodeOptions
) -> Embeddings:
    """Encode pairs of a data set, the first caption of each picture.

    Args:
        encoder: the model.
        dataset: of `DATASETS`.
        roots: where its files are.
        prefix: put before every caption, as before those to be scored.
        n_pairs: how many; all if there are fewer.
        seed: which are drawn.
        options: how to encode.
    """
    from i0t.encoders.encode import encode

    images, captions = _pairs_of(dataset, roots)
    count = min(n_pairs, len(images))
    rows = np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
    say(f"calibration: {count} pairs of {dataset}{' of the built-in sample' if roots.is_sample else ''}")
    items = Items(
        images=[images[row] for row in rows],
        image_ids=[images[row].name for row in rows],
        texts=[captions[row] for row in rows],
        owners=[[row] for row in range(count)],
        prefix=prefix,
        metadata={
            "dataset": dataset,
            "split": "train" if dataset == TRAIN else "test",
            "built_in_sample": roots.is_sample,
        },
    )
    return encode(encoder, items, options)


def _pairs_of(dataset: str, roots: Roots) -> tuple[Sequence[Path], Sequence[str]]:
    if dataset == TRAIN:
        pairs = load_sharegpt4v(roots.data_dir, "train", subset="all")
        return pairs.images, pairs.captions
    loaded = load_dataset(dataset, roots, allow_partial=True)  # fewer pairs calibrate as well
    assert isinstance(loaded, CaptionSet)  # all others of DATASETS are
    return loaded.images, [captions[0] for captions in loaded.captions]
