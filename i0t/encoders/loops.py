"""The loops that encode many items: batches in order, shared among processes, remembered in the cache.

Shapes: N pictures, M texts, L tokens, D embedding dimensions; Q vectors a picture of some models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from i0t import processes
from i0t.data.images import ImageSource, Preprocess, image_loader
from i0t.encoders.precision import autocast
from i0t.encoders.towers import token_lengths
from i0t.errors import I0TError, NoPictureError

if TYPE_CHECKING:
    from i0t.encoders.cache import EncodingCache

Encoded = tuple[torch.Tensor, dict[str, Any]]
FeaturesOf = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Pass:
    """One pass over many items.

    Attributes:
        device: where the model is.
        precision: see `i0t.encoders.precision`.
        batch_size: items a forward pass.
        progress: show a bar.
        share: split the batches among all processes.
    """

    device: torch.device
    precision: str
    batch_size: int
    progress: bool = False
    share: bool = False


def remembered(
    cache: EncodingCache | None, key: Callable[[], str], share: bool, encode: Callable[[], Encoded], what: str
) -> Encoded:
    """What the cache holds under a key, else what `encode` gives, which is then kept there.

    Args:
        cache: None encodes.
        key: makes the key; called only where there is a cache.
        share: whether other processes take part. The main one alone looks and writes, so that all
            agree even where their machines have caches of their own.
        encode: returns features and what is to be remembered of them.
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
    features, about = encode()
    if looks:
        cache.save(name, features, {"what": what, **about})
    return features, {**about, "cached": False}


def encode_pictures(
    features_of: FeaturesOf,
    preprocess: Preprocess,
    images: Sequence[ImageSource],
    how: Pass,
    workers: int,
    skip_unreadable: bool,
) -> Encoded:
    """Features of the readable pictures, with `kept` and `unreadable` of the report; see `Encoder.encode_images`."""
    starts = range(0, len(images), how.batch_size)
    own = _own([range(start, min(start + how.batch_size, len(images))) for start in starts], how)
    pixels_only = image_loader(images, preprocess, own, workers, pin_memory=how.device.type == "cuda")
    done: list[tuple[int, torch.Tensor | None, list[str | None]]] = []
    for rows, (pixels, errors) in zip(own, _bar(pixels_only, "images", len(own), how), strict=True):
        bad = next((error for error in errors if error is not None), None)
        if bad is not None and not skip_unreadable:
            raise I0TError(bad)
        features = None
        if pixels is not None:
            with autocast(how.device, how.precision):
                features = features_of(pixels.to(how.device, non_blocking=True)).float()
        _fetch_last(done)  # only now: a graphics card has its next batch while it hands over the last
        done.append((rows[0], features, errors))
    _fetch_last(done)
    return _joined(_in_order(done, how), len(images))


def encode_tokens(features_of: FeaturesOf, tokens: torch.Tensor, how: Pass) -> Encoded:
    """Features (M, D) of token ids (M, L); texts of like length share a batch, which is cut to its longest."""
    order = token_lengths(tokens).argsort(stable=True)
    done: list[tuple[int, torch.Tensor | None, torch.Tensor]] = []
    own = _own(list(enumerate(order.split(how.batch_size))), how)
    for number, rows in _bar(own, "texts", len(own), how):
        batch = tokens[rows]
        if how.device.type == "cuda":
            batch = batch.pin_memory()
        with autocast(how.device, how.precision):
            features = features_of(batch.to(how.device, non_blocking=True)).float()
        _fetch_last(done)
        done.append((number, features, rows))
    _fetch_last(done)
    parts = _in_order(done, how)
    by_length = torch.cat([part for _, part, _ in parts])
    features = by_length.new_empty(len(tokens), by_length.shape[1])
    features[torch.cat([rows for _, _, rows in parts])] = by_length
    return features, {}


def _own(batches: Sequence[Any], how: Pass) -> Sequence[Any]:
    """Every so manieth batch, whole: short and long texts are then spread evenly over the processes."""
    return batches[processes.rank() :: processes.count()] if how.share else batches


def _in_order(done: list[Any], how: Pass) -> list[Any]:
    return sorted(processes.gather(done), key=lambda part: part[0]) if how.share else done


def _fetch_last(done: list[Any]) -> None:
    if done and done[-1][1] is not None:
        first, features, rest = done[-1]
        done[-1] = first, features.cpu(), rest


def _joined(parts: list[tuple[int, torch.Tensor | None, list[str | None]]], listed: int) -> Encoded:
    errors = [error for _, _, batch in parts for error in batch]
    features = [part for _, part, _ in parts if part is not None]
    if not features:
        unreadable = [error for error in errors if error is not None]
        raise NoPictureError(f"no picture to encode: {listed} listed, {len(unreadable)} unreadable.", unreadable)
    return torch.cat(features), {
        "kept": [row for row, error in enumerate(errors) if error is None],
        "unreadable": [error for error in errors if error is not None],
    }


def _bar(batches: Any, what: str, total: int, how: Pass) -> Any:
    return tqdm(batches, desc=what, unit="batch", total=total, disable=not (how.progress and processes.is_main()))
