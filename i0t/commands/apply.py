"""Program: write moved vectors for an index, and the transform of queries as matrix and bias. `i0t apply`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from i0t.cli import Parser, add_remover_flags, positive, program, remover_choices
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.features import l2_normalize, row_slices
from i0t.files import atomic_path, ensure_folder, write_npy
from i0t.locks import only_writer
from i0t.remote import is_url, local_copy, place, reaching
from i0t.search.transform import VectorTransform
from i0t.standardize import MODALITIES, GapRemover, Modality
from i0t.standardize.engines import LOCAL, Engine
from i0t.standardize.fitting import fit_to_files
from i0t.standardize.registry import RemoverChoice, load_remover, name_in_file
from i0t.standardize.saved import remover_named_in
from i0t.standardize.shard_processes import LEDGER, Work, apply_shards
from i0t.standardize.shards import Shard, find_shards
from i0t.standardize.swapped import require_own_shards

DESCRIPTION = """\
Move the vectors of an index so that images and texts can be searched together, and write the transform of
queries: one matrix and one bias per modality, which any vector store or program can apply.

  x' = normalise(matrix @ normalise(x) + bias)

Normalise the input and the result. Images (in the index or as queries) use the image matrix and bias, texts the
text matrix and bias. Index vectors and queries must both be moved, with the same file.
"""
EPILOG = """\
files in DIR
  vectors.safetensors, or images.npy and texts.npy    moved vectors, unit length, same rows and ids
  or the shards, in folders of the same names         same format, dtype and other content
  transform.safetensors      image_matrix, image_bias, text_matrix, text_bias (float64); the header has the formula

What to fit on: vectors of the same model, of images and texts like those to be searched; no pairs are needed. The
index itself can be used (name its files again): nothing is measured here, so nothing leaks.
Measure the effect on search with `i0t search-eval`.

examples
  i0t apply images.npy texts.npy --fit-on images.npy texts.npy --output corrected
  i0t apply index.safetensors --fit-on calibration.safetensors --remover whitening --output corrected
  i0t apply --folder laion --fit-on stats.safetensors --output corrected     shards: docs/scale.md
"""
SOURCE_HELP = "an Embeddings file (.safetensors), or images.npy texts.npy, of any lengths"
METHOD = "z_score"  # the default if vectors are fitted
CORES = os.cpu_count() or 1
BLOCK_ROWS = 4096  # compared at once
VECTORS, IMAGES, TEXTS, TRANSFORM = "vectors.safetensors", "images.npy", "texts.npy", "transform.safetensors"


@dataclass(frozen=True)
class ApplyOptions:
    """Options of the program."""

    output: str  # folder
    fit_on: tuple[str, ...]  # vectors to fit on, or one file of a fitted remover
    choice: RemoverChoice | None  # the remover; None: that of the fitted file
    vectors: tuple[str, ...] = ()  # an Embeddings file or arrays, moved in memory
    shards: Sequence[Work] = ()  # instead: modality and file, moved in blocks
    engine: Engine = Engine()  # for shards
    metadata: Path | None = None  # folder to copy beside moved shards, if it exists
    flag: str = "--remover"  # the program's flag for a remover, for errors


def parse(argv: Sequence[str] | None) -> ApplyOptions:
    """Parse the command line."""
    parser = Parser(prog="i0t apply", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("source", nargs="*", metavar="SOURCE", help=f"the index: {SOURCE_HELP}; or shards, below")
    parser.add_argument(
        "--fit-on", nargs="+", required=True, metavar="FILE", help="vectors to fit on, or one file of a fitted remover"
    )
    add_remover_flags(
        parser, "--remover", default=None, default_help=f"{METHOD}; of a fitted remover's file, that remover"
    )
    add_shard_flags(parser.add_argument_group("shards, instead of SOURCE"))
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to, made if missing")
    arguments = parser.parse_args(argv)
    own = None  # the remover of a fitted file
    if len(arguments.fit_on) == 1:
        (path,) = arguments.fit_on
        own = remover_named_in(path) if arguments.remover else name_in_file(path, "--remover")
    method = arguments.remover or own or METHOD
    (choice,) = remover_choices(arguments, [method], none=False, fitted=method == own)
    sharded = bool(arguments.images or arguments.texts or arguments.folder)
    if sharded == bool(arguments.source):
        parser.error("give SOURCE, or shards by --images, --texts or --folder")
    if not sharded and (arguments.key or arguments.jobs or arguments.scheduler):
        parser.error("--key, --jobs and --scheduler are for shards")
    return ApplyOptions(
        arguments.output,
        tuple(arguments.fit_on),
        choice,
        tuple(arguments.source),
        shards_of(arguments) if sharded else (),
        engine_of(arguments),
        metadata_of(arguments),
    )


def add_shard_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags for shards."""
    parser.add_argument("--images", nargs="+", default=[], metavar="GLOB", help="shards of images")
    parser.add_argument("--texts", nargs="+", default=[], metavar="GLOB", help="shards of texts")
    parser.add_argument("--folder", metavar="DIR", help="instead: clip-retrieval's img_emb, text_emb, metadata")
    parser.add_argument("--key", metavar="NAME", help="tensor or column with the vectors, if there are several")
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="instead: a Dask scheduler, or 'local' for a cluster of --jobs workers"
    )


def engine_of(arguments: argparse.Namespace) -> Engine:
    """The engine of the flags of `add_shard_flags`.

    Raises:
        I0TError: a number of processes for a cluster that is there already.
    """
    if arguments.jobs and arguments.scheduler not in (None, LOCAL):
        raise I0TError("--jobs: the workers of --scheduler are there already. Leave --jobs out.")
    return Engine(arguments.jobs or CORES, arguments.scheduler)


def metadata_of(arguments: argparse.Namespace) -> Path | None:
    """The folder of metadata to copy beside moved shards, which need not exist."""
    return place(arguments.folder) / "metadata" if arguments.folder else None


def shards_of(arguments: argparse.Namespace) -> list[Work]:
    """Find the shards of the flags of `add_shard_flags`, images first.

    Raises:
        I0TError: no shards named or found, or one is of both modalities.
    """
    patterns: dict[Modality, list[str]] = {"image": list(arguments.images), "text": list(arguments.texts)}
    if arguments.folder:
        root = place(arguments.folder)
        names = zip(MODALITIES, ("img_emb", "text_emb"), strict=True)
        with reaching(root):
            there = {modality: str(root / name) for modality, name in names if (root / name).is_dir()}
        for modality, name in there.items():
            patterns[modality].append(name)
        if not there:
            raise I0TError(f"{root}: neither img_emb nor text_emb in it. Name the files with --images and --texts.")
    work = [
        (modality, Shard(path, arguments.key))
        for modality, named in patterns.items()
        for path in (find_shards(named) if named else [])
    ]
    if not work:
        raise I0TError("no shards: give --images, --texts or --folder.")
    images = {os.path.realpath(str(shard.path)) for modality, shard in work if modality == "image"}
    for modality, shard in work:
        if modality == "text" and os.path.realpath(str(shard.path)) in images:
            raise I0TError(f"{shard.path}: given as images and as texts. Correct --images or --texts.")
    return work


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    apply(parse(argv))
    return 0


def apply(options: ApplyOptions) -> None:
    """Move vectors and write them with the transform of queries."""
    folder = place(options.output)
    if is_url(folder) and not options.shards:
        raise I0TError(f"{folder}: is a URL, where only shards can be written. Give --output a folder.")
    targets = _targets(options, folder)
    names = [TRANSFORM] if options.shards else [VECTORS, IMAGES, TEXTS, TRANSFORM]
    own = {os.path.realpath(str(path)) for path in (*targets, *(folder / name for name in names))}
    for path in (*options.vectors, *options.fit_on, *(str(shard.path) for _, shard in options.shards)):
        if os.path.realpath(path) in own:
            raise I0TError(f"{path}: would be overwritten by the moved vectors. Choose another --output.")
    source = load_embeddings(options.vectors, paired=False) if options.vectors else None
    if options.choice is None:
        remover = load_remover(options.fit_on[0], flag=options.flag)
    else:
        sources = [source] if source else []
        remover = fit_to_files([options.choice], options.fit_on, sources, flag=options.flag)[options.choice.name]
    transform = VectorTransform.of(remover)
    if source is None:
        means = {modality: remover.mean(modality) for modality in MODALITIES}
        require_own_shards(means, options.shards, " ".join(options.fit_on))
        ensure_folder(folder)
        with only_writer(folder / LEDGER):
            _move_shards(remover, options, folder, targets)
            with atomic_path(folder / TRANSFORM) as temporary:
                transform.save(temporary)
        return
    # In float64: if vectors hardly differ, little is left after subtracting the mean, and float32 loses most of it.
    moved = remover.transform_embeddings(source, check_overlap=False, in_float64=True)
    ensure_folder(folder)
    exact, single = (largest_difference(transform, source, moved, kind) for kind in (np.float64, np.float32))
    with only_writer(folder / LEDGER):  # vectors of one run and the transform of another would not fit together
        written = _write(folder, moved, is_npy=Path(options.vectors[0]).suffix == ".npy")
        written.append((transform.save(folder / TRANSFORM), f"{source.image_features.shape[-1]} dimensions, float64"))
    print(tabulate(written, headers=["written", ""]))
    print(
        f"\n{remover!r}, fitted on {remover.n_images_} images and {remover.n_texts_} texts.\n"
        f"Matrix and bias give these vectors up to {exact:.0e}, in float32 up to {single:.0e}.\n"
        "Queries: normalise, multiply by the matrix of the modality, add its bias, normalise."
    )


def _targets(options: ApplyOptions, folder: Path) -> dict[Path, Path]:
    """Map each file to write to its shard, in order.

    Raises:
        I0TError: a file would be written twice, or over its own source.
    """
    targets: dict[Path, Path] = {}
    for _, shard in options.shards:
        # With the folder's name, so that img_emb and text_emb of one layout are not mixed.
        target = folder / shard.path.resolve().parent.name / shard.path.name
        if target.resolve() == shard.path.resolve():
            raise I0TError(f"{target}: would overwrite its own source. Choose another --output.")
        if target in targets:
            raise I0TError(
                f"{shard.path} and {targets[target]} would both be written to {target}. Apply them in two runs."
            )
        targets[target] = shard.path
    return targets


def _move_shards(remover: GapRemover, options: ApplyOptions, folder: Path, targets: Iterable[Path]) -> None:
    rows, skipped = apply_shards(remover, list(zip(options.shards, targets)), folder, options.engine)
    if metadata := options.metadata:
        with reaching(metadata):
            sources = [path for path in metadata.rglob("*") if path.is_file()] if metadata.is_dir() else []
        for source in sources:
            target = folder / "metadata" / str(source.relative_to(metadata))
            with local_copy(source) as copy, atomic_path(target, sync=False) as temporary:
                shutil.copy2(copy, temporary)
    written = len(options.shards) - skipped
    print(f"{written} shards, {rows} vectors written to {folder}; {skipped} were there already ({LEDGER}).")


def largest_difference(transform: VectorTransform, source: Embeddings, moved: Embeddings, kind: type) -> float:
    """Largest difference between the moved vectors and those by matrix and bias, computed in `kind`."""
    worst = 0.0
    sides = (
        ("image", source.image_features, moved.image_features),
        ("text", source.text_features, moved.text_features),
    )
    for modality, before, after in sides:
        matrix, bias = (getattr(transform, f"{modality}_{part}").astype(kind) for part in ("matrix", "bias"))
        before, after = (side.reshape(-1, side.shape[-1]) for side in (before, after))
        for rows in row_slices(len(before), BLOCK_ROWS):
            found = l2_normalize(before[rows].astype(kind)) @ matrix.T + bias
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(kind).tiny)
            worst = max(worst, float(np.abs(found - after[rows]).max()))
    return worst


def _write(folder: Path, moved: Embeddings, is_npy: bool) -> list[tuple[Path, str]]:
    """Write the moved vectors in the format of the source."""
    sides = {IMAGES: moved.image_features, TEXTS: moved.text_features}
    if not is_npy:
        shapes = " and ".join(f"{features.shape} {name.split('.')[0]}" for name, features in sides.items())
        return [(moved.save(folder / VECTORS), shapes)]
    for name, features in sides.items():
        write_npy(folder / name, features)
    return [(folder / name, f"{features.shape} float32") for name, features in sides.items()]


if __name__ == "__main__":
    sys.exit(main())
