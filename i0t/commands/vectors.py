"""Vectors and fitted removers from the files a user names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from i0t.embeddings import FORMAT as EMBEDDINGS_FORMAT
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.files import safetensors_format
from i0t.standardize import GapRemover, Standardizer, Whitening, ZScore
from i0t.standardize.provenance import require_same_model

# name on the command line -> class; how a table calls it
METHODS: dict[str, type[GapRemover]] = {"i0t_post": Standardizer, "z_score": ZScore, "whitening": Whitening}
LABELS = {"raw": "raw", "i0t_post": "centred (I0T_post)", "z_score": "z-scored", "whitening": "whitened"}
SOURCE_HELP = "an Embeddings file (.safetensors), one .npy (2, N, D), or images.npy texts.npy, row by row pairs"
UNPAIRED_HELP = "an Embeddings file (.safetensors), or images.npy texts.npy, of any lengths"


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


def fitted_removers(methods: Sequence[str], paths: Sequence[str | Path], *moved: Embeddings) -> dict[str, GapRemover]:
    """Removers fitted to vectors, or read from the file that one was saved to.

    Args:
        methods: of `METHODS`.
        paths: vectors as `read_vectors` takes them, paired or not, or one file of a saved remover that can serve
            these methods.
        moved: what they will move, which must be of the same model.

    Raises:
        I0TError: what is wrong with the files, or another model.

    Example:
        >>> import tempfile, numpy
        >>> path = Path(tempfile.mkdtemp()) / "both.npy"
        >>> numpy.save(path, numpy.random.default_rng(0).normal(size=(2, 9, 4)))
        >>> fitted_removers(["z_score"], [path], read_vectors([path]))
        {'z_score': ZScore()}
    """
    is_vectors = len(paths) != 1 or Path(paths[0]).suffix == ".npy"
    if is_vectors or safetensors_format(paths[0]) == EMBEDDINGS_FORMAT:
        given = read_vectors(paths, paired=False)
        fitted = {method: METHODS[method]().fit_embeddings(given) for method in methods}
    else:
        fitted = {method: METHODS[method].load(paths[0]) for method in methods}
    for remover, embeddings in itertools.product(fitted.values(), moved):
        try:
            require_same_model(remover.provenance, embeddings)
        except I0TError as error:
            raise I0TError(f"{' '.join(map(str, paths))}: {error}") from None
    return fitted
