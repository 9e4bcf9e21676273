"""The flags of gap removal, and the training pairs that `--fit-on train` encodes."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from i0t.cli import encode_options
from i0t.data.items import Items
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.embeddings import Embeddings
from i0t.encoders.encode import encode
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots
from i0t.standardize import GapRemover
from i0t.standardize.fitting import TEST, fit_remover
from i0t.standardize.registry import add_remover_flags, parameter_flags, remover_choices


def add_gap_flags(parser: argparse.ArgumentParser) -> None:
    """`--remove-gap` and its parameters, `--fit-on`, `--fit-samples`."""
    group = parser.add_argument_group("removing the gap")
    add_remover_flags(group)
    group.add_argument(
        "--fit-on",
        default=TEST,
        metavar="{test,train,FILE}",
        help="where the means come from: the evaluated set itself (test: the paper's protocol, it leaks; default), "
        "ShareGPT4V training pairs (train), or a means or Embeddings file",
    )
    group.add_argument(
        "--fit-samples",
        type=int,
        default=1000,
        metavar="N",
        help="training pairs that --fit-on train takes, drawn with --seed (default 1000; compare Table 3)",
    )


class GapRemoval:
    """Fits the remover that the flags ask for; training pairs are encoded once for each prefix.

    Args:
        encoder: for the training pairs; None where embeddings are given, which no pairs can be encoded to.
        roots: where the training pairs are.
        options: the flags of `add_gap_flags`, `seed`, and what encoding needs.
    """

    def __init__(self, encoder: Encoder | None, roots: Roots, options: argparse.Namespace) -> None:
        self.encoder, self.roots, self.options = encoder, roots, options
        (self.choice,) = remover_choices(options, [options.remove_gap])
        self._training: dict[str, Embeddings] = {}

    def remover(self, embeddings: Embeddings, prefix: str = "") -> GapRemover | None:
        """The fitted remover for these embeddings; None for `--remove-gap none`. Raises as `fit_remover`.

        Args:
            embeddings: the evaluated set.
            prefix: put before training captions, as before the evaluated texts.
        """
        calibration = (lambda: self._training_pairs(prefix)) if self.encoder else None
        return fit_remover(self.choice, self.options.fit_on, embeddings, calibration)

    def _training_pairs(self, prefix: str) -> Embeddings:
        assert self.encoder is not None
        if prefix not in self._training:
            pairs = load_sharegpt4v(self.roots.data_dir, "train")
            count = min(self.options.fit_samples, len(pairs))
            rows = np.sort(np.random.default_rng(self.options.seed).choice(len(pairs), count, replace=False))
            items = Items(
                images=[pairs.image(row) for row in rows],
                image_ids=[pairs.names[row] for row in rows],
                texts=[pairs.captions[row] for row in rows],
                owners=[[image] for image in range(count)],
                prefix=prefix,
                metadata={"dataset": "sharegpt4v", "split": "train"},
            )
            self._training[prefix] = encode(self.encoder, items, encode_options(self.options))
        return self._training[prefix]


def recorded_flags(options: argparse.Namespace) -> dict[str, Any]:
    """All flags, for a record: of a remover's parameters those that were named, and lambda."""
    (choice,) = remover_choices(options, [options.remove_gap])
    flags = {key: value for key, value in vars(options).items() if key not in (*parameter_flags(), "set")}
    return {**flags, "shift_lambda": 0.375, **choice.parameters}
