"""What a record states of a run beside its numbers: the model, the data, and how they were encoded."""

from __future__ import annotations

from typing import Any

from i0t.embeddings import Embeddings
from i0t.encoders.encoder import Encoder
from i0t.files import list_sha256


def encoder_facts(encoder: Encoder) -> dict[str, Any]:
    """Which model, with the fingerprint of its weights and how it was trained."""
    return {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "architecture": encoder.architecture,
        "heads": encoder.heads.kind if encoder.heads else None,
        "source": encoder.source,
        "training": encoder.training_summary,
    }


def common_protocol(embeddings: Embeddings) -> dict[str, Any]:
    """What all tasks state: which part of the data, encoded in which precision; None where a file does not say."""
    return {"split": embeddings.metadata.get("part"), "precision": embeddings.metadata.get("precision")}


def leak_of(protocol: dict[str, Any]) -> str:
    """How much of the evaluated set its means come from, in a few words; nothing where they are of other items.

    Example:
        >>> leak_of({"means_leak": True}), leak_of({"means_leak": False}), leak_of({"means_leak": None})
        ('leak', '', 'leak unknown')
        >>> leak_of({"means_leak": True, "fit_overlap": {"image_names": 0.0, "text_words": 0.004}})
        'leak of 0.4 %'
    """
    if not protocol.get("means_leak"):
        return "" if protocol.get("means_leak") is False else "leak unknown"
    share = max((protocol.get("fit_overlap") or {}).values(), default=0.0)
    # Without a share the name of the data set told: the items may be other encodings of the same.
    return f"leak of {100 * share:.2g} %" if 0 < share < 1 else "leak"


def data_facts(embeddings: Embeddings, completeness: dict[str, Any]) -> dict[str, Any]:
    """Counts, source and hash of what was evaluated, and what of it was cut or could not be read."""
    unreadable = embeddings.metadata["unreadable"]
    return {
        "images": len(embeddings.image_features),
        "texts": len(embeddings.text_features),
        "source": embeddings.metadata["source"],
        "built_in_sample": completeness.get("built_in_sample", False),
        "sha256": list_sha256(_items(embeddings)),
        "truncated_texts": embeddings.metadata["truncated_texts"],
        "unreadable_pictures": len(unreadable),
        "unreadable": unreadable[:10],
        "from_cache": embeddings.metadata.get("from_cache"),
    }


def _items(embeddings: Embeddings) -> list[str]:
    """What tells these data from others; where the model is unknown, the features themselves as well."""
    features = embeddings.metadata.get("features_sha256")
    return [*embeddings.image_ids, *embeddings.texts, *([features] if features else [])]
