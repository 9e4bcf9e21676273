"""`Encoder`: the contract of every CLIP-like model.

Shapes: B batch, N images, M texts, L tokens, D embedding dimensions. For models with Q vectors per image
(BLIP-2's queries), image features are (B, Q, D) instead of (B, D).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from scipy.special import expit
from torch import nn
from torch.nn import functional as F

from i0t.data.items import ImageSource, Preprocess
from i0t.encoders import AUTO, EncodeOptions
from i0t.encoders.clip_model import ClipModel
from i0t.encoders.heads import NormHeads
from i0t.encoders.precision import resolve_precision
from i0t.encoders.text_batches import Tokenize, encode_cut_text, pad_id_of, text_length
from i0t.errors import I0TError


class Encoder(nn.Module):
    """A CLIP-like model with its preprocessing, tokenizer and optional normalisation heads.

    Args:
        model: a module like `open_clip.CLIP`: `encode_image` maps pixels to (B, D) or (B, Q, D),
            `encode_text` maps token ids to (B, D), not normalised; `context_length`; `logit_scale`, None
            if the weights have none.
        preprocess: PIL image to (3, H, W) pixels.
        tokenize: list of str to (B, L) token ids, cut to the context (keeping the end token) and padded
            with its `pad_id` (0 if it has none). If it has `is_cut(text)`, that says whether a text is too long.
        architecture: {"model": {"embed_dim": D, ...}, ...}; an open_clip model can be rebuilt from it, see
            `i0t.encoders.openclip`.
        heads: normalisation heads, e.g. of I0T_async.
        name: name for records and errors.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        tokenize: Tokenize,
        architecture: dict[str, Any],
        heads: NormHeads | None = None,
        name: str = "",
    ) -> None:
        super().__init__()
        self.model = cast(ClipModel, model)  # open_clip's models have this interface
        self.heads = heads
        self.preprocess, self.tokenize = preprocess, tokenize
        self.architecture, self.name = architecture, name
        self._fingerprint: tuple[list[tuple[int, int]], str] | None = None
        self.training_summary: dict[str, Any] = {}  # filled by training and by loading a checkpoint
        self.source: dict[str, Any] = {}  # filled by a spec: its name, files and arguments

    @property
    def is_small(self) -> bool:
        """Whether this is the sample's small architecture, which is trained with a recipe's sample values."""
        return bool(self.architecture.get("small"))

    @property
    def is_open_clip(self) -> bool:
        """Whether this is a model of open_clip: its architecture describes it, so it can be trained and saved."""
        return "vision_cfg" in self.architecture["model"]

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.architecture["model"]["embed_dim"])

    @property
    def context_length(self) -> int:
        """Largest number of tokens, including start and end."""
        return int(self.model.context_length)

    @property
    def log_scale(self) -> nn.Parameter:
        """The logarithm of `logit_scale`, the learned parameter.

        Raises:
            I0TError: the weights have none.
        """
        if self.model.logit_scale is None:
            raise I0TError(f"{self.name}: its weights hold no temperature. Take a model that has one.")
        return self.model.logit_scale

    @property
    def logit_scale(self) -> torch.Tensor:
        """The factor on cosines in training, a scalar. Raises as `log_scale`."""
        return self.log_scale.exp().reshape(())  # SigLIP's has a dimension

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """The bias of a sigmoid model's logits (SigLIP), one value; None if the model defines no probability."""
        return getattr(self.model, "logit_bias", None)

    @torch.no_grad()
    def match_probability(self, cosines: np.ndarray) -> np.ndarray | None:
        """Probability that image and text match: sigmoid(logit_scale * cosine + logit_bias) (SigLIP, section 3).

        Args:
            cosines: of images with texts, any shape.

        Returns:
            float64, the same shape; None if the model defines no probability: it has no bias, or normalisation
            heads, which move the cosines that the bias was learned for.
        """
        if self.logit_bias is None or self.heads is not None:
            return None
        scale, bias = (float(value.detach()) for value in (self.logit_scale, self.logit_bias))
        return expit(scale * np.asarray(cosines, dtype=np.float64) + bias)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over architecture and weights; identifies the model of a result.

        Kept until a weight changes, since hashing a large model takes a second.
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

    @property
    def facts(self) -> dict[str, Any]:
        """Description for records: fingerprint of the weights, architecture, source and training."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "architecture": self.architecture,
            "heads": self.heads.kind if self.heads else None,
            "source": self.source,
            "training": self.training_summary,
        }

    def features_of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to unit image features (B, D)."""
        features = unit_image_features(self.model, pixels)
        return features if self.heads is None else self.heads(features, "image")

    def features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L), best on the CPU (where `text_length` is quick), to unit text features (B, D)."""
        features = unit_text_features(self.model, *self._moved(tokens))
        return features if self.heads is None else self.heads(features, "text")

    def text_length(self, tokens: torch.Tensor) -> int:
        """Number of columns of token ids (B, L), on the CPU, that the text features depend on."""
        return text_length(self.model, tokens, pad_id_of(self.tokenize))

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(image_features, text_features) of a batch, both (B, D)."""
        return self.features_of_pixels(pixels), self.features_of_tokens(tokens)

    def raw_features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """`features_of_tokens` before the last normalisation."""
        features = encode_cut_text(self.model, *self._moved(tokens)).float()
        return features if self.heads is None else self.heads.unnormalized(F.normalize(features, dim=-1), "text")

    def _moved(self, tokens: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Token ids on the encoder's device, and their `text_length`."""
        length = self.text_length(tokens)
        if self.device.type == "cuda" and tokens.device.type == "cpu":
            tokens = tokens.pin_memory()
        return tokens.to(self.device, non_blocking=True), length

    def computed_with(self, precision: str) -> list[str]:
        """All that encoded numbers depend on, except the items: for the keys of the cache."""
        device = self.device
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        dtype = str(next(self.model.parameters()).dtype)
        return [self.fingerprint, resolve_precision(device, precision), device.type, card, dtype, torch.__version__]

    def encode_images(
        self,
        images: Sequence[ImageSource],
        batch_size: int = 64,
        workers: int = 0,
        skip_unreadable: bool = False,
        progress: bool = False,
        precision: str = AUTO,
        upright: bool = False,
    ) -> torch.Tensor:
        """Encode N paths or PIL images, without the cache; see `EncodeOptions` for the arguments.

        `upright=True` for photographs, which may lie on their side: it turns them as their EXIF orientation says, as
        `i0t score` does.

        `i0t.encoders.encode.encode_pictures` also returns which images were skipped.

        Returns:
            (N, D) or (N, Q, D) float32 on the CPU, L2-normalised.

        Raises:
            I0TError: an image cannot be read, or none is left (`NoPictureError`).
        """
        from i0t.encoders.encode import encode_pictures

        options = EncodeOptions(
            batch_size, workers, precision, skip_unreadable, cache=False, progress=progress, upright=upright
        )
        return torch.from_numpy(encode_pictures(self, images, options).features)

    def encode_texts(
        self,
        texts: Sequence[str],
        batch_size: int = 64,
        progress: bool = False,
        precision: str = AUTO,
        normalize: bool = True,
    ) -> torch.Tensor:
        """Encode M texts, without the cache; `i0t.encoders.encode.encode_texts` also counts texts that were cut.

        Returns:
            (M, D) float32 on the CPU, L2-normalised unless `normalize` is False.

        Raises:
            I0TError: there is no text.
        """
        from i0t.encoders.encode import encode_texts

        options = EncodeOptions(batch_size, precision=precision, cache=False, progress=progress)
        return torch.from_numpy(encode_texts(self, texts, options, normalize).features)


def unit_image_features(model: ClipModel, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) to unit features (B, D) before any head; with gradients, for training."""
    return F.normalize(model.encode_image(pixels).float(), dim=-1)


def unit_text_features(model: ClipModel, tokens: torch.Tensor, length: int) -> torch.Tensor:
    """Token ids (B, L) of a `text_length` to unit features (B, D) before any head; with gradients, for training."""
    return F.normalize(encode_cut_text(model, tokens, length).float(), dim=-1)
