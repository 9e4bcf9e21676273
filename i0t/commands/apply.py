"""Program: write corrected vectors for an index, and the transform of queries as matrix and bias. `i0t apply`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from i0t.cli import program
from i0t.commands.vectors import METHODS, UNPAIRED_HELP, fitted_removers, read_vectors
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.features import l2_normalize
from i0t.files import atomic_path, ensure_folder
from i0t.search.transform import VectorTransform
from i0t.standardize import GapRemover

DESCRIPTION = """\
Move the vectors of an index so that images and texts can be searched together, and write what moves a query:
one matrix and one bias a modality, which any vector store or program can apply.

  x' = normalise(matrix @ normalise(x) + bias)

The input must be normalised first and the result too. Images (in the index or asking) take the image's
matrix and bias, texts the text's. Index vectors and queries must both be moved, by the same file.
"""
EPILOG = """\
DIR then holds
  vectors.safetensors, or images.npy and texts.npy    moved vectors, unit length, rows and ids as they were
  transform.safetensors      image_matrix, image_bias, text_matrix, text_bias (float64); the header tells the formula

What to fit on: vectors by the same model of pictures and texts like those that will be searched; pairs are not needed.
The index itself will do (name its files again): nothing is measured here, so nothing leaks.
Measure what it does to search with `i0t search-eval`.

examples
  i0t apply images.npy texts.npy --fit-on images.npy texts.npy --output corrected
  i0t apply index.safetensors --fit-on calibration.safetensors --method whitening --output corrected
"""
BLOCK_ROWS = 4096  # moved at once
VECTORS, IMAGES, TEXTS, TRANSFORM = "vectors.safetensors", "images.npy", "texts.npy", "transform.safetensors"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
    parser = argparse.ArgumentParser(
        prog="i0t apply", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help=f"the index: {UNPAIRED_HELP}")
    parser.add_argument(
        "--fit-on", nargs="+", required=True, metavar="FILE", help="vectors to fit on, or one file of a fitted remover"
    )
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="z_score",
        help="i0t_post subtracts means; z_score (default) also divides by each dimension's deviation; whitening also "
        "turns the axes",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to, made if missing")
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    arguments = parse(argv)
    folder = ensure_folder(arguments.output)
    targets = {(folder / name).resolve() for name in (VECTORS, IMAGES, TEXTS, TRANSFORM)}
    for path in [*arguments.source, *arguments.fit_on]:
        if Path(path).resolve() in targets:
            raise I0TError(f"{path}: lies where the moved vectors would go. Choose another --output.")
    source = read_vectors(arguments.source, paired=False)
    remover = fitted_removers([arguments.method], arguments.fit_on, source)[arguments.method]
    transform = VectorTransform.of(remover)
    moved = source.with_features(
        in_float64(remover.transform_image, source.image_features),
        in_float64(remover.transform_text, source.text_features),
    )
    exact, single = (largest_difference(transform, source, moved, kind) for kind in (np.float64, np.float32))
    written = _write(folder, moved, remover, is_npy=Path(arguments.source[0]).suffix == ".npy")
    written.append((transform.save(folder / TRANSFORM), f"{source.image_features.shape[-1]} dimensions, float64"))
    print(tabulate(written, headers=["written", ""]))
    print(
        f"\n{remover!r}, fitted on {remover.n_images_} images and {remover.n_texts_} texts. Matrix and bias give these "
        f"vectors to {exact:.0e}, in float32 to {single:.0e}.\n"
        "A query: normalise, times matrix plus bias of its modality, normalise."
    )
    return 0


def in_float64(transform: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> np.ndarray:
    """What `transform` gives in float64, as float32, a block at a time.

    Vectors that hardly differ leave little when their mean is taken off, of which float32 loses most.

    Args:
        transform: of a fitted remover.
        features: (N, D) or (N, Q, D).

    Example:
        >>> in_float64(lambda block: block - 0.25, np.eye(2, dtype=np.float32)).tolist()
        [[0.75, -0.25], [-0.25, 0.75]]
    """
    moved = np.empty(features.shape, dtype=np.float32)
    for start in range(0, len(features), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        try:
            moved[rows] = transform(features[rows].astype(np.float64))
        except I0TError:
            transform(features.astype(np.float64))  # names the row in the whole array
            raise
    return moved


def largest_difference(transform: VectorTransform, source: Embeddings, moved: Embeddings, kind: type) -> float:
    """Largest difference of any number between what matrix and bias give, computed in `kind`, and the moved vectors."""
    worst = 0.0
    sides = (
        ("image", source.image_features, moved.image_features),
        ("text", source.text_features, moved.text_features),
    )
    for modality, before, after in sides:
        matrix, bias = (getattr(transform, f"{modality}_{part}").astype(kind) for part in ("matrix", "bias"))
        before, after = (side.reshape(-1, side.shape[-1]) for side in (before, after))
        for start in range(0, len(before), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            found = l2_normalize(before[rows].astype(kind)) @ matrix.T + bias
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(kind).tiny)
            worst = max(worst, float(np.abs(found - after[rows]).max()))
    return worst


def _write(folder: Path, moved: Embeddings, remover: GapRemover, is_npy: bool) -> list[tuple[Path, str]]:
    """The moved vectors in the form of the source."""
    sides = {IMAGES: moved.image_features, TEXTS: moved.text_features}
    if not is_npy:
        moved.metadata["gap_removed"] = {"remover": remover.name, "fingerprint": remover.fingerprint}
        shapes = " and ".join(f"{features.shape} {name.split('.')[0]}" for name, features in sides.items())
        return [(moved.save(folder / VECTORS), shapes)]
    written = []
    for name, features in sides.items():
        with atomic_path(folder / name) as temporary, temporary.open("wb") as stream:
            np.save(stream, features)
        written.append((folder / name, f"{features.shape} float32"))
    return written


if __name__ == "__main__":
    sys.exit(main())
