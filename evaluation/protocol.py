"""What a record's protocol says about the gap remover: its parameters, and whether its means leak."""

from __future__ import annotations

from typing import Any

from i0t.embeddings import Embeddings
from i0t.origin import Origin
from i0t.standardize import GapRemover, Overlap
from i0t.standardize.fitting import TEST


def describe(remover: GapRemover | None, evaluated: Embeddings) -> dict[str, Any]:
    """Describe the remover for a record's protocol: name, parameters, and where the means come from.

    Returns:
        Entries of the protocol. `means_leak` is True if evaluated items were fitted or both data sets are the same,
        None if neither items nor data sets are known. `fit_overlap` is the share of the evaluated items that
        were fitted, by kind of hash; None if unknown.
    """
    if remover is None:
        return {"remove_gap": "none"}
    origin, overlap = remover.origin, remover.overlap(evaluated)
    return {
        "remove_gap": remover.name,
        "remover_parameters": remover.parameters(),
        "fit_on": origin.fit_on,
        "fit_file": origin.file,
        "fit_dataset": origin.dataset,
        "n_fit_images": remover.n_images_,
        "n_fit_texts": remover.n_texts_,
        "means_fingerprint": remover.fingerprint,
        "fit_overlap": overlap.shares or None,
        "means_leak": _leaks(overlap, origin, evaluated.metadata),
    }


def _leaks(overlap: Overlap, origin: Origin, evaluated: dict[str, Any]) -> bool | None:
    """Whether evaluated items were fitted, from their hashes, else from the names of the data sets."""
    if overlap:
        return True
    if origin.dataset is None or origin.extra.get("model_is_file_name"):  # then the data set has no real name either
        return None if overlap.image_share is None else False
    same_set = _image_set(origin.dataset) == _image_set(evaluated.get("dataset"))
    return same_set and (origin.split or TEST) == (evaluated.get("split") or TEST)


def _image_set(dataset: str | None) -> str | None:
    """Name of the images of a data set: Flickr8k-Expert and Flickr8k-CF share theirs."""
    return "flickr8k" if dataset and dataset.startswith("flickr8k_") else dataset
