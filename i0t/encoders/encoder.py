"""`Encoder`: the contract of every CLIP-like model.

Shapes: B batch, N images, M texts, L tokens, D embedding dimensions. For models with Q vectors per image
(BLIP-2's queries), image features are (B, Q, D) instead of (B, D).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from i0t.data.items import ImageSource, Preprocess
from i0t.encoders import AUTO, PRECISIONS, EncodeOptions
from i0t.encoders.heads import NormHeads
from i0t.errors import I0TError

END_OF_TEXT = 49407  # the largest id of CLIP's byte-pair vocabulary
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ClipModel(nn.Module):
    """The interface of `Encoder.model`, as of `open_clip.CLIP`; a model need not derive from this class.

    `visual`, `positional_embedding` and `attn_mask` are needed for open_clip's models only.
    """

    encode_image: Callable[[torch.Tensor], torch.Tensor]
    encode_text: Callable[[torch.Tensor], torch.Tensor]
    context_length: int
    logit_scale: nn.Parameter | None
    visual: nn.Module
    positional_embedding: nn.Parameter
    attn_mask: torch.Tensor


class Encoder(nn.Module):
    """A CLIP-like model with its preprocessing, tokenizer and optional normalisation heads.

    Args:
        model: a module like `open_clip.CLIP`: `encode_image` maps pixels to (B, D) or (B, Q, D),
            `encode_text` maps token ids to (B, D), not normalised; `context_length`; `logit_scale`, None
            if the weights have none.
        preprocess: PIL image to (3, H, W) pixels.
        tokenize: list of str to (B, L) token ids, cut to the context (keeping the end token) and padded
            with 0. If it has `is_cut(text)`, that says whether a text is too long.
        architecture: {"model": {"embed_dim": D, ...}, ...}; an open_clip model can be rebuilt from it, see
            `i0t.encoders.openclip`.
        heads: normalisation heads, e.g. of I0T_async.
        name: name for records and errors.
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
        return self.log_scale.exp()

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
        """Token ids (B, L), best on the CPU (see `text_length`), to unit text features (B, D)."""
        features = unit_text_features(self.model, *self._moved(tokens))
        return features if self.heads is None else self.heads(features, "text")

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(image_features, text_features) of a batch, both (B, D)."""
        return self.features_of_pixels(pixels), self.features_of_tokens(tokens)

    def raw_features_of_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """`features_of_tokens` before the last normalisation."""
        features = encode_cut_text(self.model, *self._moved(tokens)).float()
        return features if self.heads is None else self.heads.unnormalized(F.normalize(features, dim=-1), "text")

    def _moved(self, tokens: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Token ids on the encoder's device, and their `text_length`."""
        length = text_length(self.model, tokens)
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
    ) -> torch.Tensor:
        """Encode N paths or PIL images, without the cache; see `EncodeOptions` for the arguments.

        `i0t.encoders.encode.encode_pictures` also returns which images were skipped.

        Returns:
            (N, D) or (N, Q, D) float32 on the CPU, L2-normalised.

        Raises:
            I0TError: an image cannot be read, or none is left (`NoPictureError`).
        """
        from i0t.encoders.encode import encode_pictures

        options = EncodeOptions(batch_size, workers, precision, skip_unreadable, cache=False, progress=progress)
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


def text_length(model: ClipModel, tokens: torch.Tensor) -> int:
    """Number of columns of token ids (B, L) that matter: up to the longest text, if the mask is causal.

    Call it while the ids are on the CPU: a card would first finish all earlier work.
    """
    return int(token_lengths(tokens).max()) if _is_causal(model) else tokens.shape[1]


def encode_cut_text(model: ClipModel, tokens: torch.Tensor, length: int) -> torch.Tensor:
    """`model.encode_text` on tokens cut to their `text_length`.

    The result is the same, because the causal mask hides padding from the tokens before it; at 248 tokens it
    is several times faster. `open_clip.CLIP` adds all its positions, so positions and mask are replaced by
    their first rows for this call (with gradients).
    """
    if length == model.context_length or not _is_causal(model):
        return model.encode_text(tokens)
    cut = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    exchanged = {f"model.{name}": value for name, value in cut.items()}
    # Looking for tied weights takes milliseconds, and these two are not tied.
    return torch.func.functional_call(_TextModel(model), exchanged, tokens[:, :length], tie_weights=False)


def _is_causal(model: ClipModel) -> bool:
    return getattr(model, "text_pool_type", "") == "argmax" and getattr(model, "attn_mask", None) is not None


def token_lengths(tokens: torch.Tensor) -> torch.Tensor:
    """(B,) number of ids per row of (B, L), without the padding zeros at the end.

    A 0 inside a text (CLIP's "!") does not end it.
    """
    filled = tokens != 0
    return torch.where(filled.any(dim=1), tokens.shape[1] - filled.flip(1).int().argmax(dim=1), 0)


def resolve_precision(device: torch.device, precision: str = AUTO) -> str:
    """Replace "auto": bf16 on CUDA (fp16 if the card only emulates bf16), fp32 elsewhere.

    Raises:
        I0TError: an unknown name.
    """
    if precision not in PRECISIONS:
        raise I0TError(f"precision {precision!r}: not one of {', '.join(PRECISIONS)}.")
    if precision != AUTO:
        return precision
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):  # torch checks the current card
        # Cards before Ampere (V100, T4) emulate bf16, slower than fp32; newer torch counts emulation by default.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: str = AUTO) -> AbstractContextManager[Any]:
    """Context for forward passes in a precision; weights are not converted."""
    dtype = DTYPES.get(resolve_precision(device, precision))
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Fetched:
    """A tensor that is being copied to the CPU while the card continues with its next work.

    `.cpu()` would wait for all work of the card, also for work that started after the tensor was computed.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy = tensor.to("cpu", non_blocking=tensor.is_cuda)  # into page-locked memory
        self._arrived = None
        if tensor.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> torch.Tensor:
        """Wait for the copy, and return it in ordinary memory."""
        if self._arrived is None:
            return self._copy
        self._arrived.synchronize()
        return self._copy.clone()


class _TextModel(nn.Module):
    """`encode_text` as `forward`, for `functional_call`."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unnormalised text features (B, D)."""
        return self.model.encode_text(tokens)
