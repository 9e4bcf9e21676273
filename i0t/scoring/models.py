"""The model and the calibration pairs of `i0t score`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0t.cli import usable_device
from i0t.data.datasets import datasets_of, in_sample, is_present, load_dataset
from i0t.embeddings import Embeddings
from i0t.encoders import EncodeOptions, load_encoder
from i0t.errors import I0TError
from i0t.paths import TENSORS, Roots, last_checkpoint, read_path_file, say

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

SAMPLE = "sample"
TRAIN = "train"
FIRST = "flickr"
# Data sets to calibrate on, in order of preference: short captions first.
DATASETS = (FIRST, *(name for name in datasets_of("captions") if name != FIRST), TRAIN)
# Of recipe lcco: enough to tell right captions from wrong.
BRIEF = {"steps": 100, "warmup_steps": 20, "validate_every": 0}


def scoring_model(
    name: str, roots: Roots, folder: Path, device: str | None = None, workers: int = 0, seed: int = 0
) -> tuple[Encoder, str]:
    """Load the model to score with; return it with a note for the user.

    Args:
        name: as for `load_encoder`; or "sample": the last checkpoint, or the sample's small model, which is trained
            briefly, once.
        roots: where the files of specs and checkpoints are.
        folder: for the briefly trained model.
        device: as for `usable_device`.
        workers: decoding processes of the training.
        seed: of untrained models.

    Raises:
        I0TError: no such model.
    """
    import torch

    device = usable_device(device)
    torch.manual_seed(seed)
    if name != SAMPLE:
        is_untrained = name.startswith("tiny") or name.endswith("/random")
        return load_encoder(name, device, roots), "untrained: its scores are noise" if is_untrained else ""
    if read_path_file("ckpt_file_name.txt")[0]:
        return load_encoder(last_checkpoint(roots), device, roots), "the last checkpoint"
    path = _briefly_trained(folder, device, workers)
    note = "trained for a minute on drawn shapes only; for photographs: --model ViT-B-32-quickgelu/openai"
    return load_encoder(path, device, roots), note


def _briefly_trained(folder: Path, device: str, workers: int) -> Path:
    """Train the sample's small model for a minute, or return the one trained before."""
    from i0t.data.sample import data_dir, data_dir_sub, make_sample
    from i0t.training.run import TrainOptions, train

    root = make_sample(TENSORS / "sample")
    if not any(folder.glob("lcco-*-last.safetensors")):
        say("no checkpoint yet: training the sample's small model once, a minute or two on two CPU cores")
    how = TrainOptions(recipe="lcco", base="tiny", overrides=BRIEF, output=folder, device=device, workers=workers)
    run = train(how, Roots(data_dir(root), data_dir_sub(root), is_sample=True))
    if run is None:
        raise I0TError("stopped by SIGTERM; the same command resumes the training.")
    return run.last


def default_dataset(roots: Roots) -> str:
    """Name of the first data set of `DATASETS` that is present.

    Raises:
        I0TError: none is present.
    """
    for name in DATASETS:
        if is_present("sharegpt4v" if name == TRAIN else name, roots):
            return name
    raise I0TError("no data set to calibrate on in the path files' folders: name vectors with --calibrate-on FILE.")


def calibration_pairs(
    encoder: Encoder, dataset: str, roots: Roots, prefix: str, n_pairs: int, seed: int, options: EncodeOptions
) -> Embeddings:
    """Encode `n_pairs` random pairs of a data set (all, if it has fewer), with the first caption per image."""
    from i0t.data.captions import CaptionSet  # imports torch, which --help does not need
    from i0t.data.sharegpt4v import load_sharegpt4v
    from i0t.encoders.encode import encode

    rng = np.random.default_rng(seed)
    if dataset == TRAIN:
        pairs = load_sharegpt4v(roots.data_dir, "train", subset="all")
        items = pairs.items(_drawn(len(pairs), n_pairs, rng), prefix)
    else:
        # An incomplete data set can calibrate, too.
        captions = load_dataset(dataset, roots, allow_partial=True)
        assert isinstance(captions, CaptionSet)
        items = captions.items()
        rows = _drawn(len(items.images), n_pairs, rng)
        columns: dict[str, Any] = {
            name: [getattr(items, name)[row] for row in rows] for name in ("images", "image_ids", "texts")
        }
        items = replace(items, **columns, owners=[[row] for row in range(len(rows))], prefix=prefix)
    sample = in_sample(roots)
    say(f"calibration: {len(items.texts)} pairs of {dataset}{' of the built-in sample' if sample else ''}")
    split = "train" if dataset == TRAIN else "test"
    about = {"dataset": dataset, "split": split, "built_in_sample": sample}
    return encode(encoder, replace(items, metadata=about), options)


def _drawn(n: int, wanted: int, rng: np.random.Generator) -> list[int]:
    return np.sort(rng.choice(n, min(n, wanted), replace=False)).tolist()
