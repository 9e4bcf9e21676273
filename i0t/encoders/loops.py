"""The loops that encode many items: batches in order, shared among processes, remembered in the cache.

Shapes: N pictures, M texts, B batch, L tokens, D embedding dimensions; Q vectors a picture of some models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from i0t import processes
from i0t.data.images import ImageSource, image_loader
from i0t.encoders.precision import autocast
from i0t.errors import I0TError

if TYPE_CHECKING:
    from i0t.encoders.cache import EncodingCache
    from i0t.encoders.encoder import Encoder

Encoded = tuple[torch.Tensor, dict[str, Any]]


def remembered(
    cache: EncodingCache | None, key: Callable[[], str], share: bool, encode: Callable[[bool], Encoded], what: str
) -> Encoded:
    """What the cache holds under a key, else what `encode` gives, which is then kept there.

    Args:
        cache: None encodes.
        key: makes the key; called only where there is a cache.
        share: whether other processes take part. The main one alone looks and writes, so that all
            agree even where their machines have caches of their own.
        encode: told whether to share; returns features and what is to be remembered of them.
        what: which features they are, for who looks into the cache.

    Returns:
        The features, and what is remembered together with `cached`, whether they were found.
    """
    looks = cache is not None and (processes.is_main() or not share)
    name = key() if looks else ""
    found = cache.load(name) if looks else None
    if share:
        found = processes.from_main(found)
    if found is not None:
        return found[0], {**found[1], "cached": True}
    features, about = encode(share)
    if looks:
        cache.save(name, features, {"what": what, **about})
    return features, {**about, "cached": False}


def encode_pictures(
    encoder: Encoder,
    images: Sequence[ImageSource],
    batch_size: int,
    workers: int,
    skip_unreadable: bool,
    progress: bool,
    precision: str,
    share: bool,
) -> Encoded:
    """Features of the readable pictures, with `kept` and `unreadable` of the report; see `Encoder.encode_images`."""
    batches = [range(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    own = _own(batches, share)
    device = encoder.device
    pixels_only = image_loader(images, encoder.preprocess, own, workers, pin_memory=device.type == "cuda")
    done: list[tuple[int, torch.Tensor | None, list[str | None]]] = []
    for rows, (pixels, errors) in zip(own, _bar(pixels_only, "images", len(own), progress), strict=True):
        bad = next((error for error in errors if error is not None), None)
        if bad is not None and not skip_unreadable:
            raise I0TError(bad)
        features = None
        if pixels is not None:
            with autocast(device, precision):
                features = encoder.features_of_pixels(pixels.to(device, non_blocking=True)).float()
        _fetch_last(done)  # only now: a graphics card has its next batch while it hands over the last
        done.append((rows[0], features, errors))
    _fetch_last(done)
    return _joined(_in_order(done, share), len(images))


def encode_tokens(
    encoder: Encoder,
    tokens: torch.Tensor,
    batch_size: int,
    progress: bool,
    precision: str,
    normalize: bool,
    share: bool,
) -> Encoded:
    """Features (M, D) of token ids (M, L); texts of like length share a batch, which is cut to its longest."""
    order = token_lengths(tokens).argsort(stable=True)
    features_of = encoder.features_of_tokens if normalize else encoder.raw_features_of_tokens
    done: list[tuple[int, torch.Tensor | None, torch.Tensor]] = []
    own = _own(list(enumerate(order.split(batch_size))), share)
    for number, rows in _bar(own, "texts", len(own), progress):
        batch = tokens[rows]
        if encoder.device.type == "cuda":
            batch = batch.pin_memory()
        with autocast(encoder.device, precision):
            features = features_of(batch.to(encoder.device, non_blocking=True)).float()
        _fetch_last(done)
        done.append((number, features, rows))
    _fetch_last(done)
    parts = _in_order(done, share)
    features = torch.empty(len(tokens), encoder.embed_dim)
    features[torch.cat([rows for _, _, rows in parts])] = torch.cat([part for _, part, _ in parts])
    return features, {}


def token_lengths(tokens: torch.Tensor) -> torch.Tensor:
    """(B,) number of ids without the padding, which is the zeros at the end of each row of (B, L).

    A 0 within a text (CLIP's "!") does not end it.
    """
    filled = tokens != 0
    return torch.where(filled.any(dim=1), tokens.shape[1] - filled.flip(1).int().argmax(dim=1), 0)


def stack_padded(chunks: list[torch.Tensor]) -> torch.Tensor:
    """One (M, L) array of token ids from chunks that may be padded to different lengths."""
    length = max(chunk.shape[1] for chunk in chunks)
    return torch.cat([F.pad(chunk, (0, length - chunk.shape[1])) for chunk in chunks])


def _own(batches: Sequence[Any], share: bool) -> Sequence[Any]:
    """Every so manieth batch, whole: short and long texts are then spread evenly over the processes."""
    return batches[processes.rank() :: processes.count()] if share else batches


def _in_order(done: list[Any], share: bool) -> list[Any]:
    return sorted(processes.gather(done), key=lambda part: part[0]) if share else done


def _fetch_last(done: list[Any]) -> None:
    if done and done[-1][1] is not None:
        first, features, rest = done[-1]
        done[-1] = first, features.cpu(), rest


def _joined(parts: list[tuple[int, torch.Tensor | None, list[str | None]]], listed: int) -> Encoded:
    errors = [error for _, _, batch in parts for error in batch]
    features = [part for _, part, _ in parts if part is not None]
    if not features:
        raise I0TError(f"no picture to encode: {listed} listed, {len(errors)} unreadable.")
    return torch.cat(features), {
        "kept": [row for row, error in enumerate(errors) if error is None],
        "unreadable": [error for error in errors if error is not None],
    }


def _bar(batches: Any, what: str, total: int, progress: bool) -> Any:
    return tqdm(batches, desc=what, unit="batch", total=total, disable=not (progress and processes.is_main()))
