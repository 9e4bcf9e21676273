"""Texts for transformers' dual encoders: the padding, truncation and case that a model was trained with.

Shapes: B batch, L tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from i0t.errors import I0TError

HIDDEN = -1  # stands for padding that the attention mask hides
# Families that pool the last position or see padding, whatever their tokenizer says.
ALWAYS_FULL = ("siglip",)
NO_LIMIT = 10**6  # a tokenizer without a limit states 1e30


@dataclass(frozen=True)
class TextRules:
    """How a model takes texts.

    Attributes:
        context_length: largest number of tokens, including start and end.
        full: whether every text is padded to it; else to the longest text of a batch.
        has_mask: whether the model gets an attention mask, which hides padding.
        lower: whether texts are to be lower-cased before the tokenizer, which should but does not.
    """

    context_length: int
    full: bool
    has_mask: bool
    lower: bool


def text_rules(model: Any, tokenizer: Any, defaults: dict[str, Any]) -> TextRules:
    """Find the rules of a model.

    Args:
        model: of transformers.
        tokenizer: its tokenizer.
        defaults: arguments that its processor gives the tokenizer.

    Raises:
        I0TError: the tokenizer has no words, or the context length is not stated.
    """
    require_words(tokenizer)
    has_mask = "attention_mask" in tokenizer.model_input_names
    full = (
        not has_mask
        or defaults.get("padding") == "max_length"
        or tokenizer.padding_side == "left"  # else positions would depend on the batch
        or model.config.model_type in ALWAYS_FULL
    )
    limits = (defaults.get("max_length"), tokenizer.model_max_length, _positions(model))
    known = [int(limit) for limit in limits if limit and limit < NO_LIMIT]
    if not known:
        raise I0TError("neither model nor tokenizer states how many tokens a text may have (model_max_length).")
    return TextRules(min(known), full, has_mask, _forgets_case(tokenizer))


def require_words(tokenizer: Any) -> None:
    """Refuse a tokenizer of special tokens alone: transformers makes one where the files of a tokenizer are missing.

    Raises:
        I0TError: names the files.
    """
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        files = ", ".join(sorted(set(tokenizer.vocab_files_names.values()) | {"tokenizer.json"}))
        raise I0TError(f"its tokenizer knows no words: the files of it are missing ({files}).")


class ModelTokenizer:
    """List of texts to token ids (B, L), by a model's own tokenizer; padding that its mask hides is -1."""

    def __init__(self, tokenizer: Any, rules: TextRules) -> None:
        self.tokenizer, self.rules = tokenizer, rules
        self.context_length, self.has_mask = rules.context_length, rules.has_mask
        self.fill = int(tokenizer.pad_token_id)
        self.pad_id = HIDDEN if rules.has_mask else self.fill
        self.may_be_cut = rules.has_mask and not rules.full

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Token ids (B, L)."""
        found = self.tokenizer(
            [self._cased(text) for text in texts],
            padding="max_length" if self.rules.full else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        ids = found["input_ids"]
        return ids.masked_fill(found["attention_mask"] == 0, HIDDEN) if self.has_mask else ids

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        return len(self.tokenizer(self._cased(text), verbose=False)["input_ids"]) > self.context_length

    def _cased(self, text: str) -> str:
        return text.lower() if self.rules.lower else text


def _positions(model: Any) -> int | None:
    """Number of text positions of a model; RoBERTa's start behind the padding id."""
    config: Any = getattr(model.config, "text_config", model.config)
    positions = getattr(config, "max_position_embeddings", None)
    tower = getattr(model, "text_model", model)
    if positions and any(hasattr(part, "create_position_ids_from_input_ids") for part in tower.modules()):
        positions -= config.pad_token_id + 1
    return positions


def _forgets_case(tokenizer: Any) -> bool:
    """Whether a tokenizer is declared to lower-case and does not: SigLIP 2's, a Gemma tokenizer."""
    declared = getattr(tokenizer, "init_kwargs", {}).get("do_lower_case", False)
    return bool(declared) and tokenizer("A CAT")["input_ids"] != tokenizer("a cat")["input_ids"]
