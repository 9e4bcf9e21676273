"""Vectors from the files a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from i0t.embeddings import Embeddings, load_embeddings

SOURCE_HELP = "an Embeddings file (.safetensors), one .npy (2, N, D), or images.npy texts.npy, row by row pairs"


def read_vectors(paths: Sequence[str | Path], paired: bool = True) -> Embeddings:
    """Embeddings, as unit vectors, of one `.safetensors`, or one or two `.npy`.

    Args:
        paths: the files.
        paired: whether rows of two `.npy` must belong together; otherwise their lengths may differ.

    Raises:
        I0TError: other files, or what is wrong with these.

    Example:
        >>> import tempfile, numpy
        >>> paths = [Path(tempfile.mkdtemp()) / name for name in ("images.npy", "texts.npy")]
        >>> for path, count in zip(paths, (3, 5)):
        ...     numpy.save(path, numpy.ones((count, 4)))
        >>> len(read_vectors(paths, paired=False).text_features)
        5
    """
    given = load_embeddings(paths, paired)
    given.metadata.setdefault("dataset", Path(paths[0]).stem)
    return given


def same_files(one: Sequence[str | Path], other: Sequence[str | Path]) -> bool:
    """Whether two lists name the same files.

    Example:
        >>> same_files(["a.npy", "./b.npy"], ["b.npy", "a.npy"])
        True
    """
    return {Path(path).resolve() for path in one} == {Path(path).resolve() for path in other}
