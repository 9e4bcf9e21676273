"""Program: standardise any number of vectors. `python -m i0t.standardize fit|merge|apply`; docs/scale.md."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path

from i0t.cli import program
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.standardize.jobs import LEDGER, Work, apply_shards, fit_shards
from i0t.standardize.registry import REMOVERS, load_remover, remover_class
from i0t.standardize.remover import GapRemover
from i0t.standardize.shards import Shard, find_shards

EPILOG = """\
Files are .npy (N, D), .safetensors or Parquet with a column of lists; patterns must be quoted.
  python -m i0t.standardize fit --images 'a/img_emb/*.npy' --texts 'a/text_emb/*.npy' --output a.safetensors
  python -m i0t.standardize merge a.safetensors b.safetensors --output stats.safetensors
  python -m i0t.standardize apply stats.safetensors --folder a --output moved   # clip-retrieval's layout"""


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="i0t.standardize", description=__doc__, epilog=EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="learn the statistics of shards", epilog=EPILOG, formatter_class=raw)
    merge = commands.add_parser("merge", help="join statistics of several machines, exactly")
    apply = commands.add_parser("apply", help="write shards with the gap removed", epilog=EPILOG, formatter_class=raw)
    merge.add_argument("files", nargs="+", metavar="FILE", help="written by fit or merge")
    apply.add_argument("statistics", metavar="FILE", help="written by fit or merge")
    for command in (fit, apply):
        command.add_argument("--images", nargs="+", default=[], metavar="GLOB", help="shards of images")
        command.add_argument("--texts", nargs="+", default=[], metavar="GLOB", help="shards of texts")
        command.add_argument("--folder", metavar="DIR", help="instead: clip-retrieval's img_emb, text_emb, metadata")
        command.add_argument("--key", metavar="NAME", help="tensor or column with the vectors, if there are several")
        command.add_argument(
            "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
        )
    fit.add_argument("--remover", default="i0t_post", help=f"{', '.join(REMOVERS)} (default i0t_post), MODULE:CLASS")
    fit.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=NUMBER", help="parameters of the remover, e.g. shift_lambda=0.5"
    )
    for command in (merge, apply):
        command.add_argument("--remover", metavar="MODULE:CLASS", help="of files by a remover that is not ours")
    for command, what in ((fit, "FILE"), (merge, "FILE"), (apply, "DIR")):
        command.add_argument("--output", required=True, metavar=what, help="what to write")
    return parser


def _shards(options: argparse.Namespace) -> list[Work]:
    """Modality and shard, images first.

    Raises:
        I0TError: nothing asked for, or nothing found.
    """
    given = {"image": list(options.images), "text": list(options.texts)}
    if options.folder:
        root = Path(options.folder)
        for modality, name in (("image", "img_emb"), ("text", "text_emb")):
            if (root / name).is_dir():
                given[modality].append(str(root / name))
        if not any(given.values()):
            raise I0TError(f"{root}: neither img_emb nor text_emb in it. Name the files with --images and --texts.")
    work: list[Work] = [
        (modality, Shard(path, options.key))
        for modality, patterns in given.items()
        for path in (find_shards(patterns) if patterns else [])
    ]
    if not work:
        raise I0TError("no shards: give --images, --texts or --folder.")
    return work


def _fit(options: argparse.Namespace) -> None:
    try:
        parameters = {name: float(value) for name, value in (item.split("=") for item in options.set)}
        make = partial(remover_class(options.remover), **parameters)
        make()
    except (ValueError, TypeError) as error:
        raise I0TError(f"--set {' '.join(options.set)}: {error}. Write NAME=NUMBER, as the remover has them.") from None
    shards = _shards(options)
    _require_both(shards)
    output = Path(options.output)
    if output.is_dir():
        raise I0TError(f"{output}: is a folder. Give --output the name of a file, e.g. {output / 'stats.safetensors'}.")
    ensure_folder(output.parent)  # all this before reading, which may take hours
    path = fit_shards(make, shards, options.jobs).save(options.output)
    _say_fitted(load_remover(path, options.remover), path)


def _require_both(shards: list[Work]) -> None:
    """Refuse to fit one modality alone: the file of a fitted remover holds the means of both."""
    for modality, flag, folder in (("image", "--images", "img_emb"), ("text", "--texts", "text_emb")):
        if all(held != modality for held, _ in shards):
            raise I0TError(
                f"fit: no shards of {modality}s, and both are needed. Give {flag}, or a folder with {folder}."
            )


def _merge(options: argparse.Namespace) -> None:
    removers = [load_remover(path, options.remover) for path in options.files]
    origins: dict[str, str] = {}
    for path, remover in zip(options.files, removers):
        for digest in _digests(remover.provenance):
            if digest in origins:
                raise I0TError(
                    f"{path}: the same {digest.split()[0]} vectors are in {origins[digest]}; they would count twice."
                )
            origins[digest] = path
    merged = reduce(lambda one, other: one.merge(other), removers)
    merged.provenance = {"merged": [remover.provenance for remover in removers]}
    _say_fitted(merged, merged.save(options.output))


def _digests(provenance: dict) -> list[str]:
    own = [f"{modality} {held['sha256']}" for modality, held in provenance.get("shards", {}).items()]
    return own + [digest for part in provenance.get("merged", []) for digest in _digests(part)]


def _apply(options: argparse.Namespace) -> None:
    remover, shards = load_remover(options.statistics, options.remover), _shards(options)
    output = ensure_folder(options.output)
    targets: dict[Path, Path] = {}
    for _, shard in shards:
        # The folder's name stays, so that img_emb and text_emb of one layout stay apart.
        target = output / shard.path.resolve().parent.name / shard.path.name
        if target.resolve() == shard.path.resolve():
            raise I0TError(f"{target}: would overwrite its own source. Choose another --output.")
        if target in targets:
            raise I0TError(f"{shard.path} and {targets[target]} would both be written to {target}. Apply them apart.")
        targets[target] = shard.path
    rows, skipped = apply_shards(remover, list(zip(shards, targets)), output, options.jobs)
    metadata = Path(options.folder or "") / "metadata"
    if options.folder and metadata.is_dir():
        shutil.copytree(metadata, output / "metadata", dirs_exist_ok=True)
    print(
        f"{len(shards) - skipped} shards, {rows} vectors written to {output}; {skipped} were there already ({LEDGER})."
    )


def _say_fitted(remover: GapRemover, path: Path) -> None:
    print(f"{remover!r}: {remover.n_images_} images, {remover.n_texts_} texts, {remover.fingerprint}\n{path}")


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = _parser().parse_args(argv)
    {"fit": _fit, "merge": _merge, "apply": _apply}[options.command](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
