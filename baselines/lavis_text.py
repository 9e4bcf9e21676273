"""Captions as in LAVIS for BLIP and BLIP-2: cleaned, cut to 50 words, BERT word pieces.

Source: salesforce/LAVIS, `processors/blip_processors.py` (BlipCaptionProcessor) and `init_tokenizer`. The two
tokens that LAVIS adds to BERT's vocabulary, [DEC] and [ENC], are not used in embedded text.

Shapes: B batch, L tokens.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer

from i0t.encoders.hub import hub_calls
from i0t.encoders.text_batches import token_lengths
from i0t.errors import I0TError, first_line

MAX_WORDS = 50
VOCABULARY_FILE = "vocab.txt"
SPECIAL_PIECES = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}


def clean_caption(caption: str) -> str:
    """Clean a caption: lower case, without the punctuation that LAVIS removes, single blanks, at most 50 words.

    Example:
        >>> clean_caption('  Two CATS; "hello" (really)  ')
        'two cats hello really'
    """
    return " ".join(_words(caption)[:MAX_WORDS])


def _words(caption: str) -> list[str]:
    cleaned = re.sub(r'[.!"()*#:;~]', " ", caption.lower())
    return re.sub(r"\s{2,}", " ", cleaned).rstrip("\n").strip(" ").split(" ")


class LavisTokenizer:
    """List of captions to token ids (B, L), padded with 0 to the longest.

    Args:
        vocabulary: BERT's vocab.txt, or a model on the hub that has one, "bert-base-uncased".
        context_length: largest number of tokens, including [CLS] and [SEP].

    Raises:
        I0TError: the vocabulary is not BERT's, or the hub cannot be reached.
    """

    def __init__(self, vocabulary: str | Path, context_length: int) -> None:
        path = vocabulary if Path(vocabulary).is_file() else _from_hub(str(vocabulary))
        try:
            self.pieces = BertWordPieceTokenizer(str(path), lowercase=True)
        except Exception as error:  # tokenizers raises plain Exceptions
            raise I0TError(f"{path}: not a BERT vocabulary ({error}).") from None
        if any(self.pieces.token_to_id(piece) != index for piece, index in SPECIAL_PIECES.items()):
            raise I0TError(f"{path}: not bert-base-uncased's vocabulary, which has {SPECIAL_PIECES}.")
        self.pieces.enable_padding()
        self.pieces.enable_truncation(context_length)

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """Token ids (B, L)."""
        encoded = self.pieces.encode_batch([clean_caption(caption) for caption in captions])
        return torch.tensor([row.ids for row in encoded])

    def is_cut(self, caption: str) -> bool:
        """Whether a caption is cut."""
        return len(_words(caption)) > MAX_WORDS or bool(self.pieces.encode(clean_caption(caption)).overflowing)


def cut_and_mask(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut token ids (B, L) to their longest row; return them with the attention mask (1 for tokens, 0 for padding)."""
    tokens = tokens[:, : int(token_lengths(tokens).max())]
    return tokens, (tokens != 0).long()


def _from_hub(name: str) -> str:
    from huggingface_hub import hf_hub_download

    try:
        with hub_calls() as silence:
            return hf_hub_download(name, VOCABULARY_FILE)
    except (OSError, ValueError) as error:  # no network, no such repository
        raise I0TError(
            f"BERT's vocabulary: no <data_dir>/{name}/{VOCABULARY_FILE} exists, and the hub cannot give {name} "
            f"({silence or first_line(error)[:160]}). Connect once, or put the file there."
        ) from None
