"""PAC-S, RefPAC-S and I0T-S for the pacscore repository: a drop-in for one of its files.

    cp evaluation/pac_score.py Github/pacscore/evaluation/pac_score/pac_score.py

The `compute_correlations.py` and `compute_metrics.py` of github.com/aimagelab/pacscore then run unchanged and print
the figures they print with their own file. This file needs `i0t` and its requirements to be installed; it imports
nothing of the folder it lies in.

I0T-S instead of PAC-S (paper App. D): set the environment variable I0T_MEANS=/path/to/means.safetensors, a file of
`Standardizer.save` or `--remove-gap`, or give the keyword argument `standardizer`. Images and texts are then moved with
their means, and the score is the plain cosine: no w, no clipping at 0. pacscore's scripts still print it as PAC-S,
which a line on standard error says. Their RefPAC-S is then of no use: a harmonic mean has a pole where its terms
cancel, and I0T-S may be negative. The reference-based I0T-S comes from `scripts/evaluate_correlation.sh`.

What is computed stands in `i0t.metrics.caption_scores`. Every distinct picture and text is encoded once, so that
equal rows get bit-equal scores; texts longer than the context keep their end token.

Shapes: N rated (picture, candidate) pairs, K references of one candidate, D embedding dimensions.
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

from i0t.encoders.encoder import ClipModel
from i0t.errors import I0TError
from i0t.features import is_torch, l2_normalize, to_numpy
from i0t.metrics.caption_scores import SCORES
from i0t.paths import say
from i0t.standardize import GapRemover, Standardizer

MEANS_VARIABLE = "I0T_MEANS"
CONTEXT_LENGTH = 77  # of CLIP models that do not say it
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
    """PAC-S = w * max(cos(image, candidate), 0); with a standardizer I0T-S = cos, whatever `w`.

    Args:
        model: has `encode_image(pixels)` and `encode_text(tokens)`; on `device`, in eval mode, fp32 or fp16.
        transform: RGB PIL image to (3, H, W) pixels; None for CLIP's own at 224 pixels.
        images: N paths, or an (N, D) array of image features as encoded.
        candidates: N captions, without the prefix.
        device: "cpu", "cuda", ...
        w: factor on the cosine.
        standardizer: fitted means; by default those of the file that I0T_MEANS names, if it is set.

    Returns:
        The mean score; the (N,) float32 scores; the (N, D) float32 L2-normalised candidate features, as encoded
        even with a standardizer, so that they can go to `RefPACScore`; the N numbers of words.

    Raises:
        I0TError: images and candidates do not match, are of wrong types or cannot be read or encoded.

    Example:
        >>> model = torch.nn.Module()
        >>> model.encode_text = lambda tokens: torch.eye(2)[: len(tokens)]
        >>> mean, scores, _, words = PACScore(model, None, np.eye(2)[[0, 0]], ["a dog", "a red bus"], "cpu")
        >>> float(mean), scores.tolist(), words
        (1.0, [2.0, 0.0], [2, 3])
    """
    standardizer = _standardizer(standardizer, "PAC-S is I0T-S here")
    texts = _strings(candidates, "candidates")
    pictures = _unit(images, "images") if _is_array(images) else _paths(images)
    if len(pictures) != len(texts):
        raise I0TError(f"PACScore: {len(pictures)} images for {len(texts)} candidates. Give one of each a row.")
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
    """The reference part of RefPAC-S: the best cosine of each candidate with its references, not scaled or clipped.

    RefPAC-S is the harmonic mean of this and PAC-S; pacscore's scripts and `CaptionScore.with_references` take it.

    Args:
        model: as in `PACScore`.
        references: N lists of reference captions, of any lengths but 0.
        candidates: N captions, or the third value that `PACScore` returned.
        device: "cpu", "cuda", ...
        len_candidates: not used; pacscore's scripts pass it.
        standardizer: as in `PACScore`.

    Returns:
        The mean, and the N cosines as a list.

    Raises:
        I0TError: references and candidates do not match, are of wrong types or cannot be encoded.

    Example:
        >>> model = torch.nn.Module()
        >>> model.encode_text = lambda tokens: torch.eye(2)[[1, 0, 1]]
        >>> mean, best = RefPACScore(model, [["a dog"], ["a bus", "a red bus"]], np.eye(2), "cpu")
        >>> float(mean), [float(cosine) for cosine in best]
        (0.5, [0.0, 1.0])
    """
    standardizer = _standardizer(standardizer, "RefPAC-S is of no use with I0T-S, see evaluation/pac_score.py")
    lists = [_strings(own, f"references of candidate {row}") for row, own in enumerate(references)]
    texts = _unit(candidates, "candidates") if _is_array(candidates) else _strings(candidates, "candidates")
    if len(lists) != len(texts):
        raise I0TError(f"RefPACScore: {len(lists)} lists of references for {len(texts)} candidates.")
    candidate_features = _encode_texts(model, texts, device) if isinstance(texts, list) else texts
    candidate_features = _moved(standardizer, "text", candidate_features)
    distinct = list(dict.fromkeys(text for own in lists for text in own))
    reference_features = _moved(standardizer, "text", _encode_texts(model, distinct, device))
    row_of = {text: row for row, text in enumerate(distinct)}
    # One small product a candidate: what it gives must not depend on other rows, as in a large matrix product.
    best = [
        np.einsum("kd,d->k", reference_features[[row_of[text] for text in own]], candidate).max()
        for own, candidate in zip(lists, candidate_features, strict=True)
    ]
    return np.mean(best), best


def _encode_images(model: ClipModel, transform: Transform | None, paths: list[str], device: str) -> np.ndarray:
    """(N, D) unit features of pictures."""
    transform = transform or image_transform_v2(PreprocessCfg(), is_train=False)
    # fp16 models differ in whether they cast pixels themselves; the first convolution tells what they need.
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.ndim == 4), torch.float32)

    def encode(batch: list[str]) -> torch.Tensor:
        pixels = torch.stack([transform(_picture(path)) for path in batch])
        return model.encode_image(pixels.to(device, dtype))

    return _encode_distinct(paths, encode, "pictures")


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


def _standardizer(given: GapRemover | None, notice: str) -> GapRemover | None:
    """What was given, else what I0T_MEANS names, which is said: a variable is easily forgotten."""
    path = os.environ.get(MEANS_VARIABLE)
    if given is not None or not path:
        return given
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


def _is_array(given: Any) -> bool:
    return isinstance(given, np.ndarray) or is_torch(given)


def _unit(features: Any, name: str) -> np.ndarray:
    """(N, D) float32 unit rows of an array or tensor."""
    array = to_numpy(features)
    if array.ndim != 2 or not len(array) or not np.issubdtype(array.dtype, np.floating):
        raise I0TError(f"{name}: expected (N, D) features, got {array.dtype} of shape {array.shape}.")
    return l2_normalize(array.astype(np.float32, copy=False), name)


def _strings(given: Any, name: str, types: tuple[type, ...] = (str,)) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not len(given):
        raise I0TError(f"{name}: expected a list that is not empty, got {given!r:.60}.")
    for row, item in enumerate(given):
        if not isinstance(item, types):
            raise I0TError(f"{name}: entry {row} is {item!r:.60}, expected {' or '.join(t.__name__ for t in types)}.")
    return list(given)


def _paths(given: Any) -> list[str]:
    return [str(path) for path in _strings(given, "images", (str, Path))]


def _picture(path: str) -> Image.Image:
    """A picture decoded as RGB before any resizing, which would spoil palettes."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise I0TError(f"{path}: missing or unreadable picture ({error}).") from None
