"""PAC-S, RefPAC-S and I0T-S for the pacscore repository: a drop-in for one of its files.

    cp evaluation/pac_score.py Github/pacscore/evaluation/pac_score/pac_score.py

`compute_correlations.py` and `compute_metrics.py` of github.com/aimagelab/pacscore then run unchanged and print the
same numbers as with their own file. `i0t` must be installed; nothing is imported from the folder of this file.

I0T-S instead of PAC-S (paper App. D): set the environment variable I0T_MEANS=/path/to/means.safetensors, a file of
`Standardizer.save` or `--remove-gap`, or pass the keyword argument `standardizer`. Images and texts are then moved
with these means, and the score is the cosine, without w and clipping. pacscore's scripts still print it as PAC-S; a
line on standard error says so. Do not use their RefPAC-S then: a harmonic mean has a pole where its terms cancel, and
I0T-S may be negative. `scripts/evaluate_correlation.sh` has the reference-based I0T-S.

The formulas are in `i0t.metrics.caption_scores`. Every distinct image and text is encoded once, so that equal rows get
bit-equal scores; texts longer than the context keep their end token.

Shapes: N rated (image, candidate) pairs, K references of one candidate, D embedding dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from tqdm import tqdm

from i0t.data.items import decoded
from i0t.encoders.clip_model import ClipModel
from i0t.errors import I0TError, first_line
from i0t.features import is_torch, l2_normalize, to_numpy
from i0t.metrics.caption_scores import SCORES
from i0t.paths import say
from i0t.standardize import GapRemover, Standardizer

MEANS_VARIABLE = "I0T_MEANS"
CONTEXT_LENGTH = 77  # for CLIP models without this attribute
BATCH_SIZE = 64

Transform = Callable[[Image.Image], torch.Tensor]


def PACScore(
    model: ClipModel,
    transform: Transform | None,
    images: Sequence[str | Path] | np.ndarray,
    candidates: Sequence[str],
    device: str,
    w: float = 2.0,
    standardizer: GapRemover | None = None,
) -> tuple[np.float32, np.ndarray, np.ndarray, list[int]]:
    """PAC-S = w * max(cos(image, candidate), 0); with a standardizer I0T-S = cos.

    Args:
        model: has `encode_image(pixels)` and `encode_text(tokens)`; on `device`, in eval mode, fp32 or fp16.
        transform: RGB PIL image to (3, H, W) pixels; None for CLIP's own at 224 pixels.
        images: N paths, or an (N, D) array of image features as encoded.
        candidates: N captions, without the prefix.
        device: "cpu", "cuda", ...
        w: factor on the cosine.
        standardizer: fitted means; by default those of the file that I0T_MEANS names, if it is set.

    Returns:
        The mean score; the (N,) float32 scores; the (N, D) float32 L2-normalised candidate features, not moved by
        the standardizer, for `RefPACScore`; the N numbers of words.

    Raises:
        I0TError: images and candidates do not match, are of wrong types or cannot be read or encoded.
    """
    standardizer = _standardizer(standardizer, "PAC-S is I0T-S here")
    texts = _strings(candidates, "candidates")
    pictures = _unit(images, "images") if _is_array(images) else list(map(str, _strings(images, "images", (str, Path))))
    if len(pictures) != len(texts):
        raise I0TError(f"PACScore: {len(pictures)} images for {len(texts)} candidates. Give one of each per row.")
    image_features = _encode_images(model, transform, pictures, device) if isinstance(pictures, list) else pictures
    candidate_features = _encode_texts(model, texts, device)
    score = replace(SCORES["pac_s"], w=float(w)) if standardizer is None else SCORES["i0t_s"]
    scores = score.reference_free(
        _moved(standardizer, "image", image_features), _moved(standardizer, "text", candidate_features)
    )
    return np.mean(scores), scores, candidate_features, [len(text.split()) for text in texts]


def RefPACScore(
    model: ClipModel,
    references: Sequence[Sequence[str]],
    candidates: Sequence[str] | np.ndarray,
    device: str,
    len_candidates: Any = None,
    standardizer: GapRemover | None = None,
) -> tuple[np.float32, list[np.float32]]:
    """The best cosine of each candidate with its references, not scaled or clipped.

    RefPAC-S is the harmonic mean of this and PAC-S; pacscore's scripts and `CaptionScore.with_references` compute it.

    Args:
        model: as in `PACScore`.
        references: N lists of reference captions, not empty.
        candidates: N captions, or the third value of `PACScore`.
        device: "cpu", "cuda", ...
        len_candidates: not used; pacscore's scripts pass it.
        standardizer: as in `PACScore`.

    Returns:
        The mean, and the N cosines as a list.

    Raises:
        I0TError: references and candidates do not match, are of wrong types or cannot be encoded.
    """
    standardizer = _standardizer(standardizer, "RefPAC-S means nothing with I0T-S, see evaluation/pac_score.py")
    lists = [_strings(own, f"references of candidate {row}") for row, own in enumerate(references)]
    texts = _unit(candidates, "candidates") if _is_array(candidates) else _strings(candidates, "candidates")
    if len(lists) != len(texts):
        raise I0TError(f"RefPACScore: {len(lists)} lists of references for {len(texts)} candidates.")
    candidate_features = _encode_texts(model, texts, device) if isinstance(texts, list) else texts
    candidate_features = _moved(standardizer, "text", candidate_features)
    distinct = list(dict.fromkeys(text for own in lists for text in own))
    reference_features = _moved(standardizer, "text", _encode_texts(model, distinct, device))
    row_of = {text: row for row, text in enumerate(distinct)}
    # One product per candidate: in a large matrix product the bits could depend on other rows.
    best = [
        np.einsum("kd,d->k", reference_features[[row_of[text] for text in own]], candidate).max()
        for own, candidate in zip(lists, candidate_features, strict=True)
    ]
    return np.mean(best), best


def _encode_images(model: ClipModel, transform: Transform | None, paths: list[str], device: str) -> np.ndarray:
    """(N, D) unit features of images."""
    transform = transform or image_transform_v2(PreprocessCfg(), is_train=False)
    # Not all fp16 models cast pixels themselves; the first convolution has the right dtype.
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.ndim == 4), torch.float32)

    def encode(batch: list[str]) -> torch.Tensor:
        pixels = torch.stack([transform(_image(path)) for path in batch])
        return model.encode_image(pixels.to(device, dtype))

    return _encode_distinct(paths, encode, "images")


def _encode_texts(model: ClipModel, texts: list[str], device: str) -> np.ndarray:
    """(N, D) unit features of the prefix and each text."""
    tokenize = open_clip.SimpleTokenizer(context_length=int(getattr(model, "context_length", CONTEXT_LENGTH)))
    prefix = SCORES["pac_s"].prefix

    def encode(batch: list[str]) -> torch.Tensor:
        return model.encode_text(tokenize([prefix + text for text in batch]).to(device))

    return _encode_distinct(texts, encode, "texts")


@torch.no_grad()
def _encode_distinct(items: list[str], encode: Callable[[list[str]], torch.Tensor], what: str) -> np.ndarray:
    row_of: dict[str, int] = {}
    rows = [row_of.setdefault(item, len(row_of)) for item in items]
    distinct = list(row_of)
    starts = tqdm(range(0, len(distinct), BATCH_SIZE), desc=what, unit="batch", disable=None, leave=False)
    batches = [encode(distinct[start : start + BATCH_SIZE]).float().cpu() for start in starts]
    return _unit(torch.cat(batches), what)[rows]


def _moved(standardizer: GapRemover | None, modality: str, features: np.ndarray) -> np.ndarray:
    return features if standardizer is None else getattr(standardizer, f"transform_{modality}")(features)


def _standardizer(passed: GapRemover | None, notice: str) -> GapRemover | None:
    """Return the standardizer that was passed, else that of I0T_MEANS, with a message (it is easily forgotten)."""
    path = os.environ.get(MEANS_VARIABLE)
    if passed is not None or not path:
        return passed
    try:
        standardizer = Standardizer.load(path)
    except I0TError as error:
        raise I0TError(f"{MEANS_VARIABLE}: {error}") from None
    origin = standardizer.origin
    say(
        f"{notice}: {MEANS_VARIABLE}={path} (means of {standardizer.n_images_} images and {standardizer.n_texts_} "
        f"texts, model {origin.model}, data {origin.dataset})."
    )
    return standardizer


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_torch(value)


def _unit(features: Any, name: str) -> np.ndarray:
    """(N, D) float32 unit rows of an array or tensor."""
    array = to_numpy(features)
    if array.ndim != 2 or not len(array) or not np.issubdtype(array.dtype, np.floating):
        raise I0TError(f"{name}: expected (N, D) features, got {array.dtype} of shape {array.shape}.")
    return l2_normalize(array.astype(np.float32, copy=False), name)


def _strings(values: Any, name: str, types: tuple[type, ...] = (str,)) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise I0TError(f"{name}: expected a list that is not empty, got {values!r:.60}.")
    for row, item in enumerate(values):
        if not isinstance(item, types):
            raise I0TError(f"{name}: entry {row} is {item!r:.60}, expected {' or '.join(t.__name__ for t in types)}.")
    return list(values)


def _image(path: str) -> Image.Image:
    """Decode an image as RGB before any resizing, which would spoil palettes."""
    try:
        return decoded(path)
    except Exception as error:  # decoders raise errors of any type for damaged files
        raise I0TError(f"{path}: missing or unreadable image ({first_line(error)}).") from None
