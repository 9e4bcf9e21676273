"""Models of sentence-transformers that encode pictures and texts, as `Encoder`s (extra `[sentence-transformers]`).

`encode` of the package preprocesses a batch, calls the model and takes `sentence_embedding`; here the same is done in
two steps, as pictures are decoded by workers and texts are tokenised once.

Shapes: B batch, L tokens, D embedding dimensions.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from i0t.encoders.encoder import Encoder
from i0t.encoders.hub import FOREIGN_ERRORS, hub_calls, not_at_hand, require_no_adapter, source_of, why
from i0t.encoders.transformers_text import HIDDEN, require_words
from i0t.errors import I0TError

EXTRA = "pip install sentence-transformers"


class SentenceModel(nn.Module):
    """A SentenceTransformer with the interface of `open_clip.CLIP`.

    Args:
        model: the SentenceTransformer.
        fixed: per modality, the inputs of a batch that are no tensors, such as the modality's name.
    """

    hides_padding = True

    def __init__(self, model: Any, fixed: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.model, self._fixed = model, fixed
        self.context_length = int(model.max_seq_length)
        self._pad_id = int(model.tokenizer.pad_token_id)

    @property
    def logit_scale(self) -> nn.Parameter | None:
        """The logarithm of the factor on cosines, of the CLIP within; None if there is none."""
        found = (value for key, value in self.model.named_parameters() if key.endswith("logit_scale"))
        return next(found, None)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) to features (B, D), not normalised."""
        return self._embedded("image", pixel_values=pixels)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids (B, L), -1 for padding, to features (B, D), not normalised."""
        mask = tokens >= 0
        return self._embedded("text", input_ids=tokens.where(mask, self._pad_id), attention_mask=mask.long())

    def _embedded(self, modality: str, **inputs: torch.Tensor) -> torch.Tensor:
        features = self.model({**inputs, **self._fixed[modality]})["sentence_embedding"]
        return features[:, : self.model.truncate_dim]


class SentenceTokenizer:
    """List of texts to token ids (B, L), as the model's `encode` tokenises them; padding is -1."""

    pad_id = HIDDEN

    def __init__(self, model: Any) -> None:
        require_words(model.tokenizer)
        self.model = model
        self.prompt = model.prompts.get(model.default_prompt_name) or None

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Token ids (B, L)."""
        found = self.model.preprocess(list(texts), prompt=self.prompt)
        return found["input_ids"].masked_fill(found["attention_mask"] == 0, HIDDEN)

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        whole = self.model.tokenizer((self.prompt or "") + text, verbose=False)["input_ids"]
        return len(whole) > self.model.max_seq_length


class SentencePreprocess:
    """PIL image to pixels (3, H, W), as the model's `encode` does."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Pixels (3, H, W) of an RGB image."""
        return self.model.preprocess([image])["pixel_values"][0]


def load(place: str, name: str = "", trust_remote_code: bool = False, revision: str | None = None) -> Encoder:
    """Load a model of sentence-transformers from a folder or the hub; arguments as of `transformers_models.load`.

    Raises:
        I0TError: the package is not installed, the model is not there, needs code of its own, or does not give pictures
            and texts one vector each that depends on nothing else.
    """
    name = name or place
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise I0TError(f"{name}: needs the package sentence-transformers, which is not installed: {EXTRA}.") from None
    try:
        with hub_calls(not os.path.isdir(place)) as silence:
            require_no_adapter(place, name, revision)
            model = SentenceTransformer(
                place,
                device="cpu",
                trust_remote_code=trust_remote_code,
                revision=revision,
                model_kwargs={"dtype": torch.float32},
            )
    except I0TError:
        raise
    except FOREIGN_ERRORS as error:
        if "trust_remote_code" in str(error):
            raise I0TError(
                f"{name}: needs Python code of its own repository, which is not run unasked. Read that code; if you "
                f"trust it, write st:{place}:trust_remote_code=true."
            ) from None
        if isinstance(error, OSError) and not os.path.isdir(place):
            raise I0TError(not_at_hand(place, error, silence)) from None
        raise I0TError(f"{name}: sentence-transformers cannot load it ({why(error)}).") from None
    _require_weights(name, model)
    fixed = {
        "image": _fixed_inputs(name, model, Image.new("RGB", (64, 48)), "image", {"pixel_values"}),
        "text": _fixed_inputs(name, model, "a", "text", {"input_ids", "attention_mask"}),
    }
    wrapped = SentenceModel(model, fixed).eval()
    dim = int(model.get_embedding_dimension() or 0)
    architecture = {"family": "sentence-transformers", "model": {"embed_dim": dim}, "modules": str(model)}
    try:
        tokenize = SentenceTokenizer(model)
    except I0TError as error:
        raise I0TError(f"{name}: {error}") from None
    encoder = Encoder(wrapped, SentencePreprocess(model), tokenize, architecture, name=name)
    encoder.source = source_of("sentence-transformers", place, revision)
    return encoder.eval()


def _require_weights(name: str, model: nn.Module) -> None:
    """Refuse a model of which transformers filled parts with random values; the package only warns of them."""
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    values = [item for part in parts for item in part.named_parameters()]
    filled = [key for key, value in values if not getattr(value, "_is_hf_initialized", False)]  # set by the loading
    if filled:
        raise I0TError(f"{name}: its weights lack {', '.join(sorted(filled)[:5])}, filled with random values.")


def _fixed_inputs(name: str, model: Any, item: Any, modality: str, needed: set[str]) -> dict[str, Any]:
    """The inputs of one item that are the same for every item; the others must be those `needed`.

    Token types, zeros for a single text, are what the model assumes without them.
    """
    if not model.supports(modality):
        raise I0TError(f"{name}: encodes {', '.join(map(str, model.modalities))}, not {modality}s.")
    inputs = dict(model.preprocess([item]))
    inputs.pop("token_type_ids", None)
    tensors = {key for key, value in inputs.items() if isinstance(value, torch.Tensor)}
    if tensors != needed:
        raise I0TError(
            f"{name}: takes {', '.join(sorted(tensors))} for one {modality}, where {', '.join(sorted(needed))} "
            "were expected. Models that see padding, or pictures of any shape, do not fit; encode with the package, "
            "and bring the vectors with --embeddings."
        )
    return {key: value for key, value in inputs.items() if key not in tensors}
