"""Of which model and data fitted statistics are, and the refusal to apply them to another model."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError

KEPT = ("model", "fingerprint", "dataset", "split", "source")


def origin_of(embeddings: Embeddings) -> dict[str, Any]:
    """What a fitted file must say of its calibration set: model, data set, counts, hash of the features.

    Example:
        >>> names, eye = ["a", "b"], np.eye(2, dtype="float32")
        >>> origin = origin_of(Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": "tiny"}))
        >>> origin["model"], origin["n_images"], len(origin["data_sha256"])
        ('tiny', 2, 64)
    """
    digest = hashlib.sha256()
    for features in (embeddings.image_features, embeddings.text_features):
        digest.update(np.ascontiguousarray(features, dtype=np.float32))
    known = {key: embeddings.metadata[key] for key in KEPT if embeddings.metadata.get(key) is not None}
    if embeddings.metadata.get("model_is_file_name"):
        known.pop("model", None)
    counts = {"n_images": len(embeddings.image_features), "n_texts": len(embeddings.text_features)}
    return {**known, **counts, "dim": embeddings.image_features.shape[-1], "data_sha256": digest.hexdigest()}


def require_same_model(provenance: dict[str, Any], embeddings: Embeddings) -> None:
    """Refuse embeddings of another model than what was fitted, as far as both say which they are.

    The weights' fingerprints decide where both are known, else the names. Of merged files every
    part must agree.

    Raises:
        I0TError: the two models, or numbers of dimensions, differ.

    Example:
        >>> eye, names = np.eye(2, dtype="float32"), ["a", "b"]
        >>> embeddings = Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": "tiny"})
        >>> require_same_model({"model": "tiny", "dim": 2}, embeddings)
        >>> require_same_model({"model": "clip", "dim": 2}, embeddings)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: these statistics belong to model clip (model clip), the embeddings to tiny ...
    """
    for part in provenance.get("merged", ()):
        require_same_model(part, embeddings)
    evaluated = origin_of_model(embeddings)
    dim = embeddings.image_features.shape[-1]
    if provenance.get("dim") not in (None, dim):
        raise I0TError(
            f"these statistics have {provenance['dim']} dimensions, the embeddings {dim}. Fit them with the same model."
        )
    key = _differing_key(provenance, evaluated)
    if key:
        raise I0TError(
            f"these statistics belong to model {provenance.get('model')} ({key} {provenance[key]}), the embeddings to "
            f"{evaluated.get('model')} ({key} {evaluated[key]}). Fit them again with this model."
        )


def require_one_model(corpus: Embeddings, queries: Embeddings) -> None:
    """Refuse queries of another model than the corpus they search, as far as both say which they are.

    Raises:
        I0TError: the two models, or numbers of dimensions, differ.

    Example:
        >>> eye, names = np.eye(2, dtype="float32"), ["a", "b"]
        >>> one, two = (Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": name}) for name in "ab")
        >>> require_one_model(one, one)
        >>> require_one_model(one, two)
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: queries of model b (model b), a corpus of a (model a). Encode both with the same model.
    """
    dims = [embeddings.image_features.shape[-1] for embeddings in (corpus, queries)]
    if dims[0] != dims[1]:
        raise I0TError(f"queries of {dims[1]} dimensions, a corpus of {dims[0]}. Encode both with the same model.")
    searched, asking = origin_of_model(corpus), origin_of_model(queries)
    key = _differing_key(searched, asking)
    if key:
        raise I0TError(
            f"queries of model {asking['model']} ({key} {asking[key]}), a corpus of {searched['model']} "
            f"({key} {searched[key]}). Encode both with the same model."
        )


def _differing_key(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """What tells two models apart: fingerprints where both are known, else names; None where nothing does."""
    known = [key for key in ("fingerprint", "model") if None not in (one.get(key), other.get(key))]
    return known[0] if known and one[known[0]] != other[known[0]] else None


def origin_of_model(embeddings: Embeddings) -> dict[str, Any]:
    """Model name and fingerprint, as far as the metadata know them (an `.npy` file's name is none).

    Example:
        >>> eye, names = np.eye(2, dtype="float32"), ["a", "b"]
        >>> origin_of_model(Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": "tiny"}))
        {'model': 'tiny', 'fingerprint': None}
    """
    known = {key: embeddings.metadata.get(key) for key in ("model", "fingerprint")}
    return {**known, "model": None} if embeddings.metadata.get("model_is_file_name") else known
