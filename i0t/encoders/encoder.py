"""`Encoder`: one contract for every CLIP-like model.

Shapes: B batch, N images, M texts, L tokens, D embedding dimensions; Q vectors an image of models with
several (BLIP-2's queries), which have (B, Q, D) wherever image features (B, D) are named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from i0t.data.images import ImageSource, Preprocess
from i0t.encoders import loops
from i0t.encoders.cache import EncodingCache, image_key, text_key
from i0t.encoders.heads import NormHeads
from i0t.encoders.precision import AUTO, resolve_precision
from i0t.encoders.towers import encode_cut_text, stack_padded, unit_image_features, unit_text_features
from i0t.errors import I0TError, NoPictureError


@dataclass
class EncodingReport:
    """What happened while encoding; it goes into the record of the run.

    Attributes:
        unreadable: error messages of skipped pictures.
        kept: rows of the sources that were encoded.
        truncated: distinct texts that were cut, mostly to the context length (the end token is kept).
        images_cached, texts_cached: whether the last features came from the cache.
    """

    unreadable: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    truncated: int = 0
    images_cached: bool = False
    texts_cached: bool = False


class Encoder(nn.Module):
    """A CLIP-like model with its preprocessing, tokenizer and optional normalisation heads.

    Args:
        model: a module in the manner of `open_clip.CLIP`: `encode_image` of pixels gives (B, D) or
            (B, Q, D), `encode_text` of token ids gives (B, D), not normalised; `context_length`;
            `logit_scale`, None where the weights came without one.
        preprocess: PIL image to (3, H, W) pixels.
        tokenize: list of str to (B, L) token ids, cut to the context keeping the end token and padded
            with 0 to the context or to the longest. `model` knows padding by its 0. If it has
            `is_cut(text)`, that says whether a text was too long.
        architecture: {"model": {"embed_dim": D, ...}, ...}, which also rebuilds `model` if that is an
            open_clip model; see `i0t.encoders.openclip`.
        heads: normalisation heads, e.g. of I0T_async.
        name: what the user called it.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        tokenize: Callable[[list[str]], torch.Tensor],
        architecture: dict[str, Any],
        heads: NormHeads | None = None,
        name: str = "",
    ) -> None:
        super().__init__()
        self.model, self.heads = model, heads
        self.preprocess, self.tokenize = preprocess, tokenize
        self.architecture, self.name = architecture, name
        self.report = EncodingReport()
        self._fingerprint: tuple[list[tuple[int, int]], str] | None = None
        self.training_summary: dict[str, Any] = {}  # filled by training and by loading a checkpoint
        self.source: dict[str, Any] = {}  # filled by a spec: its name, files and arguments

    @property
    def is_small(self) -> bool:
        """Whether this is the sample's small architecture, which trains after a recipe's sample values."""
        return bool(self.architecture.get("small"))

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.architecture["model"]["embed_dim"])

    @property
    def context_length(self) -> int:
        """Largest number of tokens, start and end included."""
        return int(self.model.context_length)

    @property
    def logit_scale(self) -> torch.Tensor:
        """Exp of the learned log temperature, a scalar.

        Raises:
            I0TError: the weights came without one.
        """
        if self.model.logit_scale is None:
            raise I0TError(f"{self.name}: its weights hold no temperature.")
        return self.model.logit_scale.exp()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over architecture and weights: which model a result belongs to.

        Remembered until a weight changes, since hashing a large model takes a second.
        """
        state = sorted(self.state_dict().items())
        version = [(value.data_ptr(), value._version) for _, value in state]
        if self._fingerprint is None or self._fingerprint[0] != version:
            digest = hashlib.sha256(json.dumps(self.architecture, sort_keys=True).encode())
            for key, value in state:
                digest.update(key.encode())
                digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            self._fingerprint = version, digest.hexdigest()[:16]
        return self._fingerprint[1]

    def features_of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to unit image features (B, D)."""
        features = unit_image_features(self.model, pixels)
        return features if self.heads is None else self.heads(features, "image")

    def features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L) to unit text features (B, D)."""
        features = unit_text_features(self.model, tokens)
        return features if self.heads is None else self.heads(features, "text")

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(image_features, text_features) of a batch, both (B, D)."""
        return self.features_of_pixels(pixels), self.features_of_tokens(tokens)

    @torch.no_grad()
    def encode_images(
        self,
        images: Sequence[ImageSource],
        batch_size: int = 64,
        workers: int = 0,
        skip_unreadable: bool = False,
        progress: bool = False,
        precision: str = AUTO,
        cache: EncodingCache | None = None,
        share: bool = False,
    ) -> torch.Tensor:
        """Encode pictures in one pass; workers decode and preprocess the next ones meanwhile.

        Args:
            images: N paths or PIL images.
            batch_size: pictures a forward pass.
            workers: decoding processes (0: this one).
            skip_unreadable: leave out pictures that cannot be read; `report.kept` says which stayed.
            progress: show a bar.
            precision: "fp32", "bf16", "fp16", or "auto" (bf16 on CUDA, fp32 elsewhere).
            cache: where features of these very pictures are looked for first, and kept.
            share: split the batches among the processes of `accelerate launch`, which must all call
                this; every one gets all features. Batches are whole, so the result is bit-equal to
                that of one process with as many threads.

        Returns:
            (N, D) or (N, Q, D) float32 on the CPU, L2-normalised.

        Raises:
            I0TError: a picture cannot be read, or none is left (`NoPictureError`; `report` then says why).
        """
        self.eval()
        how = loops.Pass(self.device, precision, batch_size, progress, share)
        encode = partial(
            loops.encode_pictures, self.features_of_pixels, self.preprocess, images, how, workers, skip_unreadable
        )
        key = partial(image_key, self.computed_with(precision), self.preprocess, images)
        try:
            features, about = loops.remembered(cache, key, share, encode, f"{len(images)} images, {self.name}")
        except NoPictureError as error:
            self.report.kept, self.report.unreadable, self.report.images_cached = [], error.unreadable, False
            raise
        if about["unreadable"] and not skip_unreadable:  # kept by a run that skipped them
            raise I0TError(about["unreadable"][0])
        self.report.kept, self.report.unreadable = about["kept"], about["unreadable"]
        self.report.images_cached = about["cached"]
        return features

    @torch.no_grad()
    def encode_texts(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        progress: bool = False,
        precision: str = AUTO,
        cache: EncodingCache | None = None,
        share: bool = False,
        normalize: bool = True,
    ) -> torch.Tensor:
        """Encode texts in one pass, each distinct one once, so that equal texts get equal bits.

        Args:
            texts: M strings.
            batch_size: texts a forward pass.
            progress: show a bar.
            precision: as in `encode_images`; so are `cache` and `share`.
            cache: where features of this very list are looked for first, and kept.
            share: split the batches among the processes of `accelerate launch`.
            normalize: False gives the vectors before their last normalisation, whose lengths weigh
                them in a mean.

        Returns:
            (M, D) float32 on the CPU, L2-normalised unless asked otherwise. `report.truncated`
            counts distinct texts that were longer than the context.

        Raises:
            I0TError: no text given.
        """
        if not len(texts):
            raise I0TError("no text to encode.")
        self.eval()
        distinct = list(dict.fromkeys(texts))
        tokens = stack_padded([self.tokenize(distinct[i : i + 4096]) for i in range(0, len(distinct), 4096)])
        how = loops.Pass(self.device, precision, batch_size, progress, share)
        features_of = self.features_of_tokens if normalize else self.raw_features_of_tokens
        encode = partial(loops.encode_tokens, features_of, tokens, how)
        key = partial(text_key, [*self.computed_with(precision), f"normalize={normalize}"], distinct, tokens)
        features, about = loops.remembered(cache, key, share, encode, f"{len(distinct)} texts, {self.name}")
        self.report.truncated = self._count_truncated(distinct, tokens)
        self.report.texts_cached = about["cached"]
        position = {text: row for row, text in enumerate(distinct)}
        return features[[position[text] for text in texts]]

    def raw_features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """As `features_of_tokens`, but before their last normalisation."""
        features = encode_cut_text(self.model, tokens).float()
        return features if self.heads is None else self.heads.unnormalized(F.normalize(features, dim=-1), "text")

    def computed_with(self, precision: str) -> list[str]:
        """Everything but the items that encoded numbers depend on: a part of the cache's keys."""
        device = self.device
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        dtype = str(next(self.model.parameters()).dtype)
        return [self.fingerprint, resolve_precision(device, precision), device.type, card, dtype, torch.__version__]

    def _count_truncated(self, texts: list[str], tokens: torch.Tensor) -> int:
        is_cut = getattr(self.tokenize, "is_cut", None)
        if is_cut is not None:
            return sum(map(is_cut, texts))
        full = (tokens[:, -1] != 0).nonzero().flatten().tolist()
        encode = getattr(self.tokenize, "encode", None)
        if encode is None:
            return len(full)
        return sum(len(encode(texts[row])) + 2 > tokens.shape[1] for row in full)
