"""Tokenizers of open_clip models, which say what padding is (`pad_id`) and whether a text is cut (`is_cut`)."""

from __future__ import annotations

from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer

from i0t.encoders.transformers_text import require_words

END_OF_TEXT = 49407  # the largest id of CLIP's byte-pair vocabulary
CLASS_TOKEN_LAST = "clips"  # open_clip's mode with start, end and class token


class WordTokenizer(open_clip.SimpleTokenizer):  # type: ignore[misc]
    """CLIP's tokenizer with a cache of the ids of each word: twice as fast, because captions repeat few words."""

    pad_id = 0

    def __init__(self, plain: open_clip.SimpleTokenizer) -> None:
        self.__dict__.update(plain.__dict__)
        self.ids_of_word: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start and end."""
        ids: list[int] = []
        for word in self.pat.findall(self.clean_fn(text)):
            if word not in self.ids_of_word:
                letters = "".join(self.byte_encoder[byte] for byte in word.encode())
                self.ids_of_word[word] = [self.encoder[part] for part in self.bpe(letters).split(" ")]
            ids += self.ids_of_word[word]
        return ids

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        return len(self.encode(text)) + 2 > self.context_length


class HubTokenizer(HFTokenizer):  # type: ignore[misc]
    """open_clip's wrapper of a tokenizer of the Hugging Face hub (SigLIP, XLM-R, BERT, ...)."""

    def __init__(self, plain: HFTokenizer) -> None:
        require_words(plain.tokenizer)
        self.__dict__.update(plain.__dict__)

    @property
    def pad_id(self) -> int:
        """The id that rows are filled with: SigLIP's and XLM-R's is 1."""
        return int(self.tokenizer.pad_token_id)

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        special = self.tokenizer_mode != CLASS_TOKEN_LAST
        ids = self.tokenizer(self.clean_fn(text), add_special_tokens=special, verbose=False)["input_ids"]
        return len(ids) + (0 if special else 3) > self.context_length


def own_tokenizer(tokenizer: Any) -> Any:
    """One of open_clip's tokenizers as ours, with the same ids; others as they are."""
    if type(tokenizer) is open_clip.SimpleTokenizer:
        return WordTokenizer(tokenizer)
    return HubTokenizer(tokenizer) if type(tokenizer) is HFTokenizer else tokenizer


def tokenizer_of(text_config: dict[str, Any]) -> Any:
    """Make the tokenizer of open_clip's `text_cfg`, as `open_clip.get_tokenizer` does, with all its settings.

    Raises:
        OSError, ValueError: the hub's tokenizer is neither in the cache nor can it be downloaded.
    """
    settings = dict(text_config.get("tokenizer_kwargs", {}))
    settings["context_length"] = text_config.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    name = text_config.get("hf_tokenizer_name")
    if name:
        mode = text_config.get("tokenizer_mode")
        return HubTokenizer(HFTokenizer(name, tokenizer_mode=mode, **settings))
    return WordTokenizer(open_clip.SimpleTokenizer(**settings))
