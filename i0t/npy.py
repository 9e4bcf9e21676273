"""Embeddings of any other program: `.npy` arrays whose row i of images and row i of texts belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import check_shape, l2_normalize, to_numpy

UNIT = 1e-4  # vectors whose length is this close to 1 are taken as they are


def embeddings_from_npy(paths: Sequence[str | Path], paired: bool = True) -> Embeddings:
    """Read images (N, D) or (N, Q, D) and texts (N, D) from two files, or both from one (2, N, D).

    Args:
        paths: the images' file and the texts' file, or the one file.
        paired: whether row i of both belongs together; otherwise the lengths may differ, and no text has an image.

    Returns:
        Unit vectors in float32; ids are row numbers, and texts are unknown, empty strings.

    Raises:
        I0TError: missing or no `.npy` arrays of numbers, shapes that do not pair up, or a bad row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/both.npy", [[[3.0, 4.0]], [[0.0, 2.0]]])
        ...     both = embeddings_from_npy([f"{folder}/both.npy"])
        >>> both.image_features, both.pairs.tolist(), both.metadata["model"]
        (array([[0.6, 0.8]], dtype=float32), [[0, 0]], 'both')
    """
    arrays = [_read(Path(path)) for path in paths]
    if len(arrays) == 1 and (arrays[0].ndim != 3 or len(arrays[0]) != 2):
        raise I0TError(
            f"{paths[0]}: one .npy file must hold images and texts, (2, N, D), but its shape is {arrays[0].shape}. "
            "Give two files otherwise, images first."
        )
    if len(arrays) not in (1, 2):
        raise I0TError(f"{len(arrays)} .npy files: give two, images first, or one of shape (2, N, D).")
    images, texts = arrays if len(arrays) == 2 else arrays[0]
    check_shape(images, f"{paths[0]}: images")
    check_shape(texts, f"{paths[-1]}: texts", dim=images.shape[-1])
    if texts.ndim != 2 or (paired and len(images) != len(texts)):
        raise I0TError(
            f"{', '.join(map(str, paths))}: {images.shape} images and {texts.shape} texts do not pair up row by row. "
            "Several texts an image, or texts of no image, need an Embeddings file (docs/models.md)."
        )
    return Embeddings(
        image_features=unit_vectors(images, f"{paths[0]}: images"),
        text_features=unit_vectors(texts, f"{paths[-1]}: texts"),
        image_of_text=np.arange(len(texts)) if paired else np.full(len(texts), -1),
        image_ids=[str(row) for row in range(len(images))],
        texts=[""] * len(texts),
        metadata={
            "model": "+".join(Path(path).stem for path in paths),
            "model_is_file_name": True,  # two files of one model have two names
            "dataset": Path(paths[0]).stem,
        },
    )


def unit_vectors(features: np.ndarray, name: str) -> np.ndarray:
    """Float32 unit vectors; those that are unit vectors already keep their bits.

    Raises:
        I0TError: a vector is NaN, infinite or zero; the message names its row.

    Example:
        >>> unit_vectors(np.array([[3.0, 4.0]]), "images")
        array([[0.6, 0.8]], dtype=float32)
    """
    features = to_numpy(features).astype(np.float32, copy=False)
    lengths = np.linalg.norm(features, axis=-1)
    if (np.abs(lengths - 1) < UNIT).all():
        return features
    return l2_normalize(features.astype(np.float64), name).astype(np.float32)


def _read(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise I0TError(f"{path}: no such file (.npy embeddings were expected).") from None
    except (OSError, ValueError, EOFError) as error:
        raise I0TError(f"{path}: not a .npy array of numbers ({error}). Write it with numpy.save.") from None
    if not isinstance(array, np.ndarray):
        raise I0TError(f"{path}: an archive of arrays; one array a file is expected. Write it with numpy.save.")
    return array
