"""Embeddings from the files that a user names on a command line, ours or of any other program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.npy import embeddings_from_npy, unit_vectors


def embeddings_from_files(paths: Sequence[str | Path], refusal: str | None = None) -> Embeddings:
    """Embeddings from files, as unit vectors.

    Args:
        paths: one Embeddings file (.safetensors); or images.npy and texts.npy, or one .npy (2, N, D).
        refusal: what a program says of other files, where its help words it in its own way.

    Raises:
        I0TError: other files, or what is wrong with these.

    Example:
        >>> import tempfile, numpy
        >>> path = Path(tempfile.mkdtemp()) / "both.npy"
        >>> numpy.save(path, numpy.random.default_rng(0).normal(size=(2, 5, 4)))
        >>> embeddings_from_files([path]).text_features.shape
        (5, 4)
    """
    kinds = {Path(path).suffix for path in paths}
    if kinds == {".npy"}:
        return embeddings_from_npy(paths)
    if kinds != {".safetensors"} or len(paths) != 1:
        raise I0TError(
            refusal
            or f"{' '.join(map(str, paths))}: give one Embeddings file (.safetensors), images.npy and texts.npy, or "
            "one .npy of shape (2, N, D)."
        )
    embeddings = Embeddings.load(paths[0])
    return embeddings.with_features(
        unit_vectors(embeddings.image_features, f"{paths[0]}: images"),
        unit_vectors(embeddings.text_features, f"{paths[0]}: texts"),
    )
