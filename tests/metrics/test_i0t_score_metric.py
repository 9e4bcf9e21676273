"""`I0TScore`: the mean of `SCORES["i0t_s"]`, whatever the batches, and over two gloo processes.

Run: python -m pytest tests/test_i0t_score_metric.py
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributed, multiprocessing

from i0t.errors import I0TError
from i0t.metrics import I0TScore
from i0t.metrics.caption_scores import SCORES
from i0t.paths import REPO
from i0t.standardize import Standardizer, ZScore

N, DIM = 37, 12


def features(seed: int = 0, n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs in two cones, of any length."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, DIM, generator=generator)
    images, texts = torch.randn(2, n, DIM, generator=generator) + common
    return images + 3 * torch.eye(DIM)[0], texts - 3 * torch.eye(DIM)[0]


def fitted() -> Standardizer:
    return Standardizer().fit(*features(seed=1, n=200))


def expected(images: torch.Tensor, texts: torch.Tensor) -> float:
    """With NumPy, by the formulas the evaluation uses."""
    standardizer = fitted()
    moved = standardizer.transform_image(images.numpy()), standardizer.transform_text(texts.numpy())
    return float(SCORES["i0t_s"].reference_free(*moved).mean())


@pytest.mark.parametrize("batch", [1, 5, N])
def test_any_batches_give_the_mean_of_all_pairs(batch):
    images, texts = features()
    metric = I0TScore(fitted())
    for start in range(0, N, batch):
        metric.update(images[start : start + batch], texts[start : start + batch])
    assert metric.compute().item() == pytest.approx(expected(images, texts), abs=1e-6)
    assert metric.count.item() == N


def test_a_hand_worked_case():
    # Means (0.6, 0.8) and (0.6, -0.8) of single vectors; what is left of (1, 0) is (0.4, -0.8) and (0.4, 0.8).
    standardizer = Standardizer().fit(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, -4.0]]))
    metric = I0TScore(standardizer)
    metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert metric.compute().item() == pytest.approx((0.16 - 0.64) / 0.8)


def test_reset_forward_and_pickle_as_torchmetrics_promises():
    images, texts = features()
    metric = I0TScore(fitted())
    of_batch = metric(images[:10], texts[:10])  # forward: the value of this batch, added to the whole
    assert of_batch.item() == pytest.approx(expected(images[:10], texts[:10]), abs=1e-6)
    metric(images[10:], texts[10:])
    assert metric.compute().item() == pytest.approx(expected(images, texts), abs=1e-6)
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute().item() == metric.compute().item()
    metric.reset()
    assert metric.count.item() == 0


def test_half_precision_and_many_vectors_an_image():
    images, texts = features()
    metric = I0TScore(fitted())
    metric.update(images.bfloat16(), texts.bfloat16())
    assert metric.compute().item() == pytest.approx(expected(images, texts), abs=0.02)

    several = torch.stack([images, -images, images.roll(1, 0)], dim=1)  # (B, Q, D)
    standardizer = fitted()
    cosines = torch.einsum("bqd,bd->bq", standardizer.transform_image(several), standardizer.transform_text(texts))
    metric = I0TScore(standardizer)
    metric.update(several, texts)
    assert metric.compute().item() == pytest.approx(cosines.amax(dim=1).mean().item(), abs=1e-6)


class StubEncoder:
    """Encodes images by their mean colour and texts by their length."""

    def encode_images(self, images: list, upright: bool = False) -> torch.Tensor:
        means = [np.asarray(image).reshape(-1, 3).mean(axis=0) for image in images]
        return torch.tensor(np.array(means), dtype=torch.float32)

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        self.seen = texts
        return torch.tensor([[float(len(text)), 1.0, 2.0] for text in texts])


def test_images_and_captions_with_an_encoder():
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "navy")]
    captions = ["red", "a green one", "navy"]
    encoder = StubEncoder()
    standardizer = ZScore().fit(torch.rand(9, 3) + 0.1, torch.rand(9, 3) + 0.1)
    metric = I0TScore(standardizer, encoder)
    metric.update(pictures, captions)
    assert encoder.seen == [f"A photo depicts {caption}" for caption in captions]
    by_features = I0TScore(standardizer)
    by_features.update(encoder.encode_images(pictures), encoder.encode_texts(encoder.seen))
    assert metric.compute() == by_features.compute()


def test_bad_input_is_refused_and_counts_nothing():
    images, texts = features()
    with pytest.raises(I0TError, match="no image mean yet"):
        I0TScore(Standardizer())
    metric = I0TScore(fitted())
    for bad in ((images, texts[:5]), (images, texts[:, :4]), (["a.jpg"], ["a dog"]), ("a.jpg", texts)):
        with pytest.raises(I0TError):
            metric.update(*bad)
    spoilt = images.clone()
    spoilt[4] = torch.nan
    with pytest.raises(I0TError, match="row 4"):
        metric.update(spoilt, texts)
    assert metric.count.item() == 0 and metric.total.item() == 0


def test_the_library_is_imported_without_torch():
    code = "import sys, i0t, i0t.metrics; sys.exit('torch' in sys.modules or 'torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO).returncode == 0


def _of_one_process(rank: int, folder: str) -> None:
    """One of two processes, which see unequal shares."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    images, texts = features()
    share = slice(0, 10) if rank == 0 else slice(10, N)
    metric = I0TScore(fitted())
    for row in range(*share.indices(N)):
        metric.update(images[row : row + 1], texts[row : row + 1])
    torch.save({"mean": metric.compute(), "own": metric.count}, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_agree_on_the_mean_of_all(tmp_path):
    # Forked, since importing torch anew in each would take longer than all other tests together.
    processes = multiprocessing.start_processes(
        _of_one_process, args=(str(tmp_path),), nprocs=2, join=False, start_method="fork"
    )
    deadline = time.monotonic() + 120
    while not processes.join(timeout=5):
        assert time.monotonic() < deadline, "the two processes wait for each other"
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [int(result["own"]) for result in results] == [10, 27]  # each keeps its own state after `compute`
    for result in results:
        assert result["mean"].item() == pytest.approx(expected(*features()), abs=1e-6)
