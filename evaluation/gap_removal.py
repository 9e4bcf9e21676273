"""Which gap removers there are, and where their means come from (`--remove-gap`, `--fit-on`)."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from i0t.cli import encode_options
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.embeddings import FORMAT as EMBEDDINGS_FORMAT
from i0t.embeddings import Embeddings, load_embeddings
from i0t.encoders.encode import encode
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import safetensors_format
from i0t.paths import Roots
from i0t.standardize import GapRemover, Overlap
from i0t.standardize.registry import REMOVERS as OURS

NONE, TEST, TRAIN = "none", "test", "train"
# A name is all that a program knows of a remover; a new one is a line here.
REMOVERS = {
    **OURS,  # i0t/standardize/registry.py
    "mind_the_gap": "baselines.mind_the_gap:MindTheGap",
}


def add_gap_flags(parser: argparse.ArgumentParser) -> None:
    """`--remove-gap`, `--shift-lambda`, `--fit-on`, `--fit-samples`."""
    group = parser.add_argument_group("removing the gap")
    group.add_argument(
        "--remove-gap",
        choices=(NONE, *REMOVERS),
        default=NONE,
        help="i0t_post subtracts each modality's mean; z_score then divides by the standard deviations, whitening by "
        "the shrunken covariance; mind_the_gap shifts along the unit gap vector",
    )
    group.add_argument(
        "--shift-lambda",
        type=float,
        default=0.375,
        metavar="L",
        help="how far mind_the_gap shifts (Table 2: 0.375, 0.5, -0.5; default 0.375)",
    )
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
    """Fits the remover that the flags ask for; training pairs are encoded once a prefix.

    Args:
        encoder: for the training pairs; None where embeddings are given, which no pairs can be encoded to.
        roots: where the training pairs are.
        options: the flags of `add_gap_flags`, `seed`, and what encoding needs.

    Raises:
        I0TError: training pairs are asked for, but there is no encoder.

    Example:
        >>> eye, names = np.eye(2, dtype=np.float32), ["a", "b"]
        >>> tested = Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": "tiny", "fingerprint": "12"})
        >>> options = argparse.Namespace(remove_gap="i0t_post", fit_on="test")
        >>> remover = GapRemoval(None, Roots(None, None), options).remover(tested)
        >>> remover.image_mean_.tolist(), remover.provenance["fit_on"]
        ([0.5, 0.5], 'test')
    """

    def __init__(self, encoder: Encoder | None, roots: Roots, options: argparse.Namespace) -> None:
        if encoder is None and options.remove_gap != NONE and options.fit_on == TRAIN:
            raise I0TError(
                "--fit-on train: the training pairs must be encoded by the model itself, and --embeddings brings "
                "none. Use --fit-on test, or a means, Embeddings or .npy file of the same model."
            )
        self.encoder, self.roots, self.options = encoder, roots, options
        self._train_features: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def remover(self, embeddings: Embeddings, prefix: str = "") -> GapRemover | None:
        """The fitted remover for these embeddings; None for `--remove-gap none`.

        Args:
            embeddings: the evaluated set; its features are used by `--fit-on test` only, its metadata
                name the model that means must be of.
            prefix: put before training captions, as before the evaluated texts.

        Raises:
            I0TError: the file of means is missing, of another format or of another model.
        """
        if self.options.remove_gap == NONE:
            return None
        module, _, name = REMOVERS[self.options.remove_gap].partition(":")
        remover_class = getattr(import_module(module), name)
        parameters = {"shift_lambda": self.options.shift_lambda} if name == "MindTheGap" else {}
        fit_on = TEST if self._is_evaluated_file() else self.options.fit_on
        if fit_on not in (TEST, TRAIN):
            return self._from_file(remover_class, parameters, Path(fit_on), embeddings.metadata)
        provenance = self._provenance(fit_on, embeddings)
        if fit_on == TEST:  # with the items' hashes, so that the saved means are known again as a leak
            return remover_class(**parameters).fit_embeddings(embeddings, provenance)
        return remover_class(**parameters).fit(*self._training_features(prefix), provenance=provenance)

    def _is_evaluated_file(self) -> bool:
        """Whether `--fit-on FILE` names the one file that is evaluated."""
        given = getattr(self.options, "embeddings", None) or []
        return [Path(path).resolve() for path in given] == [Path(self.options.fit_on).resolve()]

    def _training_features(self, prefix: str) -> tuple[np.ndarray, np.ndarray]:
        assert self.encoder is not None
        if prefix not in self._train_features:
            pairs = load_sharegpt4v(self.roots.data_dir, "train")
            count = min(self.options.fit_samples, len(pairs))
            rows = np.sort(np.random.default_rng(self.options.seed).choice(len(pairs), count, replace=False))
            items = pairs.items(rows.tolist(), prefix)
            found = encode(self.encoder, items, encode_options(self.options))
            self._train_features[prefix] = found.image_features, found.text_features
        return self._train_features[prefix]

    def _from_file(
        self, remover_class: type[GapRemover], parameters: dict[str, float], path: Path, evaluated: dict[str, Any]
    ) -> GapRemover:
        if path.suffix == ".npy" or safetensors_format(path) == EMBEDDINGS_FORMAT:
            # Read as the evaluated file is, to the last bit: items are known again by it.
            fitting = load_embeddings(path)
            provenance = {**fitting.metadata, "fit_on": "embeddings"}
            remover = remover_class(**parameters).fit_embeddings(fitting, provenance)
        else:
            remover = remover_class.load(path, **parameters)
        remover.provenance["file"] = str(path)
        found, expected = remover.provenance.get("fingerprint"), evaluated["fingerprint"]
        if None not in (found, expected) and found != expected:
            raise I0TError(
                f"{path}: these means belong to model {remover.provenance.get('model')} ({found}), not to "
                f"{evaluated['model']} ({expected}). Fit them again with this model."
            )
        return remover

    def _provenance(self, fit_on: str, embeddings: Embeddings) -> dict[str, Any]:
        what = embeddings.metadata if fit_on == TEST else {"dataset": "sharegpt4v", "split": "train"}
        return {
            "fit_on": fit_on,
            "model": embeddings.metadata["model"],
            "fingerprint": embeddings.metadata["fingerprint"],
            "dataset": what.get("dataset"),
            "split": what.get("split", "test"),
        }


def apply_remover(remover: GapRemover | None, embeddings: Embeddings) -> Embeddings:
    """The embeddings with the gap removed (the same object where nothing is removed).

    Example:
        >>> from i0t.standardize import Standardizer
        >>> tested = Embeddings(np.eye(2), np.eye(2), np.arange(2), ["a", "b"], ["a", "b"])
        >>> apply_remover(Standardizer().fit(np.eye(2), np.eye(2)), tested).text_features.round(2).tolist()
        [[0.71, -0.71], [-0.71, 0.71]]
    """
    if remover is None:
        return embeddings
    return embeddings.with_features(
        remover.transform_image(embeddings.image_features), remover.transform_text(embeddings.text_features)
    )


def describe(remover: GapRemover | None, evaluated: Embeddings) -> dict[str, Any]:
    """What a record says of the remover: its name, parameters and where the means came from.

    Args:
        remover: fitted; None where nothing is removed.
        evaluated: as encoded, with the metadata that name its data set.

    Returns:
        For the protocol. `means_leak` is whether the means are those of evaluated items: True where some were
        fitted, or where both name one data set; None where neither items nor data sets are known. `fit_overlap`
        has the share of the evaluated items that were fitted, by kind of hash; None where it is not known.

    Example:
        >>> from i0t.standardize import Standardizer
        >>> eye, names = np.eye(2, dtype=np.float32), ["a.jpg", "b.jpg"]
        >>> tested = Embeddings(eye, eye, np.arange(2), names, names, metadata={"dataset": "flickr8k_expert"})
        >>> described = describe(Standardizer().fit_embeddings(tested), tested)
        >>> described["means_leak"], described["fit_overlap"]["image_vectors"], describe(None, tested)
        (True, 1.0, {'remove_gap': 'none'})
    """
    if remover is None:
        return {"remove_gap": NONE}
    origin, overlap = remover.provenance, remover.overlap(evaluated)
    return {
        "remove_gap": remover.name,
        "remover_parameters": remover.parameters(),
        "fit_on": origin.get("fit_on"),
        "fit_file": origin.get("file"),
        "fit_dataset": origin.get("dataset"),
        "n_fit_images": remover.n_images_,
        "n_fit_texts": remover.n_texts_,
        "means_fingerprint": remover.fingerprint,
        "fit_overlap": overlap.shares or None,
        "means_leak": _leaks(overlap, origin, evaluated.metadata),
    }


def _leaks(overlap: Overlap, origin: dict[str, Any], evaluated: dict[str, Any]) -> bool | None:
    """Whether evaluated items were fitted: by their hashes, else by the names of the data sets."""
    if overlap:
        return True
    if origin.get("dataset") is None or origin.get("model_is_file_name"):  # then the data set's name is it, too
        return None if overlap.image_share is None else False
    same_set = _pictures(origin["dataset"]) == _pictures(evaluated.get("dataset"))
    return same_set and (origin.get("split") or TEST) == (evaluated.get("split") or TEST)


def _pictures(dataset: str | None) -> str | None:
    """Sets that share pictures count as one: Flickr8k-Expert and Flickr8k-CF."""
    return "flickr8k" if dataset and dataset.startswith("flickr8k_") else dataset
