"""`encode`: encode images and texts as `Embeddings`, in batches, shared among processes, with a cache.

Shapes: N images, M texts, L tokens, D embedding dimensions; Q vectors per image of some models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from i0t import processes
from i0t.data.items import ImageSource, Items, image_loader, load_pixels
from i0t.digests import list_sha256, whole_letters
from i0t.embeddings import Embeddings
from i0t.encoders import EncodeOptions
from i0t.encoders.cache import cached, image_key, text_key
from i0t.encoders.precision import Fetched, autocast, require_directions, resolve_precision
from i0t.encoders.text_batches import are_full, pad_id_of, require_known, token_lengths
from i0t.errors import I0TError, NoPictureError
from i0t.features import l2_normalize

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

TOKENIZED_TOGETHER = 2048  # texts per chunk
DEFAULT = EncodeOptions()


@dataclass(frozen=True)
class EncodedImages:
    """Result of `encode_pictures`."""

    features: np.ndarray  # (N', D) or (N', Q, D) float32 unit vectors of the N' readable images
    kept: list[int]  # N' rows of the encoded images, ascending
    unreadable: list[str]  # error messages of the skipped images
    from_cache: bool
    sha256: str = ""  # of the N' images: bytes of files, pixels of images in memory


@dataclass(frozen=True)
class EncodedTexts:
    """Result of `encode_texts`."""

    features: np.ndarray  # (M, D) float32
    truncated: int  # number of distinct texts that were cut, mostly to the context length
    from_cache: bool


def encode(encoder: Encoder, items: Items, options: EncodeOptions = DEFAULT) -> Embeddings:
    """Encode items; each distinct text is encoded once.

    Args:
        encoder: the model.
        items: images and texts. A text is left out if all its images are unreadable.
        options: batches, precision, cache, ...

    Returns:
        Embeddings with the metadata of the items and of the encoding: `model`, `fingerprint`, `dtype`, `precision`,
        `truncated_texts`, `unreadable`, `from_cache`, `images_sha256`, `exif_orientation`.

    Raises:
        I0TError: an unreadable image that is not to be skipped, or nothing is left to encode.
    """
    images = encode_pictures(encoder, items.images, options)
    row_of = {image: row for row, image in enumerate(images.kept)}
    first_row = [next((row_of[owner] for owner in owners if owner in row_of), -1) for owners in items.owners]
    used = [text for text, row in enumerate(first_row) if row >= 0 or -1 in items.owners[text]]
    texts = [items.prefix + items.texts[text] for text in used]
    if items.prompts is None:
        encoded = encode_texts(encoder, texts, options)
        text_features = encoded.features
    else:
        prompts = [items.prefix + prompt for text in used for prompt in items.prompts[text]]
        encoded = encode_texts(encoder, prompts, options, normalize=items.normalize_prompts)
        per_text = encoded.features.reshape(len(used), -1, encoded.features.shape[1])  # (M, K, D)
        text_features = l2_normalize(per_text.mean(axis=1), "means of prompts")
    return Embeddings(
        image_features=images.features,
        text_features=text_features,
        image_of_text=np.array([first_row[text] for text in used]),
        image_ids=[items.image_ids[row] for row in images.kept],
        texts=texts,
        labels=None if items.labels is None else np.array([items.labels[row] for row in images.kept]),
        metadata={
            **items.metadata,
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "dtype": "float32",
            "truncated_texts": encoded.truncated,
            "unreadable": images.unreadable,
            "from_cache": {"images": images.from_cache, "texts": encoded.from_cache},
            "precision": resolve_precision(encoder.device, options.precision),
            "images_sha256": images.sha256,
            "exif_orientation": options.exif_orientation,
        },
    )


@torch.no_grad()
def encode_pictures(encoder: Encoder, images: Sequence[ImageSource], options: EncodeOptions = DEFAULT) -> EncodedImages:
    """Encode images; workers decode and preprocess the next batches meanwhile.

    Raises:
        I0TError: an image cannot be read and is not to be skipped, or none is left (`NoPictureError`).
    """
    _refuse_bare("encode_images", images)
    encoder.eval()
    features, about, from_cache = cached(
        options,
        key=lambda: image_key(encoder.computed_with(options.precision), encoder.preprocess, images, options.upright),
        encode=lambda: _features_of_images(encoder, images, options),
        what=f"{len(images)} images, {encoder.name}",
        is_current=lambda about: not _any_readable(about["kept"], encoder, images, options),
    )
    if about["unreadable"] and not options.skip_unreadable:  # kept by a run that skipped them
        raise I0TError(about["unreadable"][0])
    return EncodedImages(features, about["kept"], about["unreadable"], from_cache, about["images_sha256"])


def _any_readable(kept: Sequence[int], encoder: Encoder, images: Sequence[ImageSource], options: EncodeOptions) -> bool:
    """Whether an image that is not `kept` can be read now: a codec was installed, or memory was short before."""
    for row in sorted(set(range(len(images))).difference(kept)):
        try:
            load_pixels(images[row], encoder.preprocess, options.upright)
        except I0TError:
            continue
        return True
    return False


@torch.no_grad()
def encode_texts(
    encoder: Encoder, texts: Sequence[str], options: EncodeOptions = DEFAULT, normalize: bool = True
) -> EncodedTexts:
    """Encode texts, each distinct text once, so that equal texts get equal bits.

    With `normalize` False, features are not normalised at the end, so that their lengths are weights in a mean.

    Raises:
        I0TError: there is no text.
    """
    _refuse_bare("encode_texts", texts)
    if not len(texts):
        raise I0TError("no text to encode.")
    encoder.eval()
    distinct = list(dict.fromkeys(texts))
    readable = list(map(whole_letters, distinct))
    tokens = _tokenized(encoder, readable, options.workers)
    features, _, from_cache = cached(
        options,
        key=lambda: text_key([*encoder.computed_with(options.precision), f"normalize={normalize}"], distinct, tokens),
        encode=lambda: _features_of_tokens(encoder, readable, tokens, options, normalize),
        what=f"{len(distinct)} texts, {encoder.name}",
    )
    row_of = {text: row for row, text in enumerate(distinct)}
    return EncodedTexts(features[[row_of[text] for text in texts]], _count_cut(encoder, readable, tokens), from_cache)


def _refuse_bare(function: str, items: Any) -> None:
    """Refuse one item in place of a list: the letters of a text would be encoded."""
    if isinstance(items, (str, bytes, Path, Image.Image)):
        shown = repr(items) if isinstance(items, str) else type(items).__name__
        raise I0TError(f"{function}({shown:.60}): a list is expected, even of one item: {function}([{shown:.60}]).")


def _tokenized(encoder: Encoder, texts: list[str], workers: int) -> torch.Tensor:
    """Token ids (M, L). Workers share many texts, as one process is slower than a card."""
    chunks = [texts[start : start + TOKENIZED_TOGETHER] for start in range(0, len(texts), TOKENIZED_TOGETHER)]
    in_python = hasattr(encoder.tokenize, "encode")  # tokenizers of transformers use threads
    workers = min(workers, len(chunks)) if in_python and len(chunks) > 3 else 0
    own = torch.Generator()  # else the loader would change the random state of dropout
    parts: Any = chunks  # a list can be a data set
    loader: DataLoader[Any] = DataLoader(parts, None, num_workers=workers, collate_fn=encoder.tokenize, generator=own)
    found = [chunk.clone() for chunk in loader]  # a tensor of a worker keeps a file open
    longest = max(chunk.shape[1] for chunk in found)  # a tokenizer may pad each chunk to its own longest
    pad_id = pad_id_of(encoder.tokenize)
    tokens = torch.cat([F.pad(chunk, (0, longest - chunk.shape[1]), value=pad_id) for chunk in found])
    require_known(encoder.model, tokens, encoder.name)
    return tokens


def _features_of_images(
    encoder: Encoder, images: Sequence[ImageSource], options: EncodeOptions
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Encode the readable images; return features, their rows (`kept`), and errors of the others (`unreadable`)."""
    device, size = encoder.device, options.batch_size
    batches = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    own = _own_share(batches, options)
    pin = device.type == "cuda"
    done: list[tuple[int, Any, tuple[list[str | None], list[str]]]] = []
    with image_loader(images, encoder.preprocess, own, options.workers, pin, options.upright) as loader:
        for rows, (pixels, errors, digests) in zip(own, _bar(loader, "images", len(own), options), strict=True):
            bad = next((error for error in errors if error is not None), None)
            if bad is not None and not options.skip_unreadable:
                raise I0TError(bad)
            features = None
            if pixels is not None:
                with autocast(device, options.precision):
                    features = Fetched(encoder.features_of_pixels(pixels.to(device, non_blocking=True)).float())
            _fetch_last(done)  # only now: the card already has its next batch
            done.append((rows[0], features, (errors, digests)))
    _fetch_last(done)
    parts = _all_shares(done, options)
    errors = [error for _, _, (batch, _) in parts for error in batch]
    features_of_batches = [features for _, features, _ in parts if features is not None]
    unreadable = [error for error in errors if error is not None]
    if not features_of_batches:
        raise NoPictureError(f"no image to encode: {len(images)} listed, {len(unreadable)} unreadable.", unreadable)
    kept = [row for row, error in enumerate(errors) if error is None]
    sha256 = list_sha256(digest for _, _, (_, digests) in parts for digest in digests)
    joined = require_directions(
        torch.cat(features_of_batches),
        resolve_precision(device, options.precision),
        lambda row: f"{encoder.name}: image {images[kept[row]]}",
    )
    return joined, {"kept": kept, "unreadable": unreadable, "images_sha256": sha256}


def _features_of_tokens(
    encoder: Encoder, texts: list[str], tokens: torch.Tensor, options: EncodeOptions, normalize: bool
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Encode texts of token ids (M, L) as features (M, D); a batch has similar lengths, for models that cut it."""
    features_of = encoder.features_of_tokens if normalize else encoder.raw_features_of_tokens
    by_length = token_lengths(tokens, pad_id_of(encoder.tokenize)).argsort(stable=True)
    own = _own_share(list(enumerate(by_length.split(options.batch_size))), options)
    done: list[tuple[int, Any, torch.Tensor]] = []
    for number, rows in _bar(own, "texts", len(own), options):
        with autocast(encoder.device, options.precision):
            part = Fetched(features_of(tokens[rows]).float())
        _fetch_last(done)
        done.append((number, part, rows))
    _fetch_last(done)
    parts = _all_shares(done, options)
    joined = torch.cat([part for _, part, _ in parts])
    features = joined.new_empty(len(tokens), joined.shape[1])
    features[torch.cat([rows for _, _, rows in parts])] = joined
    precision = resolve_precision(encoder.device, options.precision)
    return require_directions(features, precision, lambda row: f"{encoder.name}: text {texts[row]!r:.80}"), {}


def _own_share(batches: Sequence[Any], options: EncodeOptions) -> Sequence[Any]:
    """Batches of this process: every n-th of n processes, so that all get short and long texts."""
    return batches[processes.rank() :: processes.count()] if options.share else batches


def _all_shares(done: list[Any], options: EncodeOptions) -> list[Any]:
    return sorted(processes.gather(done), key=lambda part: part[0]) if options.share else done


def _fetch_last(done: list[Any]) -> None:
    if done and done[-1][1] is not None:
        number, features, rest = done[-1]
        done[-1] = number, features.wait(), rest


def _bar(batches: Any, what: str, total: int, options: EncodeOptions) -> Any:
    disable = not (options.progress and processes.is_main())
    return tqdm(batches, desc=what, unit="batch", total=total, disable=disable)


def _count_cut(encoder: Encoder, texts: list[str], tokens: torch.Tensor) -> int:
    """Count the distinct texts that the tokenizer cut, with token ids (M, L)."""
    tokenize = encoder.tokenize
    full = are_full(tokens, pad_id_of(tokenize)).nonzero().flatten().tolist()
    is_cut, to_ids = getattr(tokenize, "is_cut", None), getattr(tokenize, "encode", None)
    if is_cut is not None and not hasattr(tokenize, "pad_id"):  # it may cut texts that do not fill a row
        return sum(map(is_cut, texts))
    if is_cut is None and to_ids is not None:  # open_clip's own: start and end are not among the ids

        def is_cut(text: str) -> bool:
            return len(to_ids(text)) + 2 > tokens.shape[1]

    return len(full) if is_cut is None else sum(is_cut(texts[row]) for row in full)
