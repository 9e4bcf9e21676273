"""Program: write corrected vectors for an index, and the transform of queries as matrix and bias. `i0t apply`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from i0t.cli import program
from i0t.commands.vectors import METHODS, UNPAIRED_HELP, fitted_removers, read_vectors
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
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
TOLERANCE = 1e-5  # unit vectors in float32 differ by less from the same in float64; more is our error
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
        remover.transform_image(source.image_features), remover.transform_text(source.text_features)
    )
    difference = largest_difference(transform, source, moved)
    if difference > TOLERANCE:
        raise AssertionError(f"matrix and bias move vectors by {difference} other than {remover!r}: please report this")
    written = _write(folder, moved, remover, is_npy=Path(arguments.source[0]).suffix == ".npy")
    written.append((transform.save(folder / TRANSFORM), f"{source.image_features.shape[-1]} dimensions, float64"))
    print(tabulate(written, headers=["written", ""]))
    print(
        f"\n{remover!r}, fitted on {remover.n_images_} images and {remover.n_texts_} texts. Matrix and bias give these "
        f"vectors to {difference:.0e}.\nA query: normalise, times matrix plus bias of its modality, normalise."
    )
    return 0


def largest_difference(transform: VectorTransform, source: Embeddings, moved: Embeddings) -> float:
    """Largest difference of any number between what matrix and bias give and the moved vectors, a block at a time."""
    worst = 0.0
    sides = (
        ("image", source.image_features, moved.image_features),
        ("text", source.text_features, moved.text_features),
    )
    for modality, before, after in sides:
        before, after = (side.reshape(-1, side.shape[-1]) for side in (before, after))
        for start in range(0, len(before), 4096):
            block = slice(start, start + 4096)
            worst = max(worst, float(np.abs(transform(before[block], modality) - after[block]).max()))
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
            np.save(stream, features.astype(np.float32, copy=False))
        written.append((folder / name, f"{features.shape} float32"))
    return written


if __name__ == "__main__":
    sys.exit(main())
