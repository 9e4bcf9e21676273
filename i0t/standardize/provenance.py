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
    for key in ("fingerprint", "model"):
        fitted, given = provenance.get(key), evaluated.get(key)
        if fitted is not None and given is not None:
            if fitted != given:
                raise I0TError(
                    f"these statistics belong to model {provenance.get('model')} ({key} {fitted}), the embeddings to "
                    f"{evaluated.get('model')} ({key} {given}). Fit them again with this model."
                )
            return


def origin_of_model(embeddings: Embeddings) -> dict[str, Any]:
    """Model name and fingerprint, as far as the metadata know them (an `.npy` file's name is none).

    Example:
        >>> eye, names = np.eye(2, dtype="float32"), ["a", "b"]
        >>> origin_of_model(Embeddings(eye, eye, np.arange(2), names, names, metadata={"model": "tiny"}))
        {'model': 'tiny', 'fingerprint': None}
    """
    known = {key: embeddings.metadata.get(key) for key in ("model", "fingerprint")}
    return {**known, "model": None} if embeddings.metadata.get("model_is_file_name") else known
