"""Program: fit, merge and apply gap removers, to any number of vectors. `i0t standardize`; docs/scale.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from i0t.cli import Parser, add_remover_flags, program, remover_choices
from i0t.commands.apply import ApplyOptions, add_shard_flags, apply, engine_of, metadata_of, shards_of
from i0t.errors import I0TError
from i0t.files import check_outputs, ensure_folder
from i0t.origin import Origin
from i0t.standardize.engines import Engine
from i0t.standardize.registry import RemoverChoice, load_remover
from i0t.standardize.remover import GapRemover
from i0t.standardize.shard_processes import Work, fit_shards

FIT = """\
Fit a gap remover to shards of images and of texts, which need not pair up. Each process holds one block of vectors, and
sums."""
MERGE = """\
Join fitted files of different shards: the result is that of one fit to all. The same shards twice are refused."""
APPLY = """\
Move shards with a fitted file, and write the transform of queries beside them, as `i0t apply` does. Shards that were
written before are skipped, so that the same command goes on after a stop."""
EPILOG = """\
Files are .npy (N, D), .safetensors or Parquet with a column of lists; patterns must be quoted.
  i0t standardize fit --images 'a/img_emb/*.npy' --texts 'a/text_emb/*.npy' --output a.safetensors
  i0t standardize merge a.safetensors b.safetensors --output stats.safetensors
  i0t standardize apply stats.safetensors --folder a --output moved   # clip-retrieval's layout"""


def _parser() -> Parser:
    parser = Parser(prog="i0t standardize", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, help="`COMMAND --help` explains each")
    fit = commands.add_parser("fit", help="fit a remover to shards", description=FIT, epilog=EPILOG)
    merge = commands.add_parser("merge", help="join fitted files of several machines, exactly", description=MERGE)
    apply = commands.add_parser("apply", help="as `i0t apply`, with a fitted file", description=APPLY)
    merge.add_argument("files", nargs="+", metavar="FILE", help="written by fit or merge")
    apply.add_argument("statistics", metavar="FILE", help="written by fit or merge")
    for command in (fit, apply):
        add_shard_flags(command)
    add_remover_flags(fit, "--remover", default="i0t_post")
    for command in (merge, apply):
        command.add_argument("--remover", metavar="NAME", help="another remover than that of the file; or MODULE:CLASS")
    for command, what in ((fit, "FILE"), (merge, "FILE"), (apply, "DIR")):
        command.add_argument("--output", required=True, metavar=what, help="what to write")
    return parser


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = _parser().parse_args(argv)
    if options.command == "fit":
        (choice,) = remover_choices(options, [options.remover], none=False)
        fit(choice, shards_of(options), Path(options.output), engine_of(options))
    elif options.command == "merge":
        merge(options.files, options.remover, Path(options.output))
    else:
        another = RemoverChoice(options.remover) if options.remover else None
        apply(
            ApplyOptions(
                output=options.output,
                fit_on=(options.statistics,),
                choice=another,
                shards=shards_of(options),
                engine=engine_of(options),
                metadata=metadata_of(options),
                flag="--remover",
            )
        )
    return 0


def fit(choice: RemoverChoice, work: list[Work], output: Path, engine: Engine) -> None:
    """Fit a remover to shards and save it."""
    for modality, flag, folder in (("image", "--images", "img_emb"), ("text", "--texts", "text_emb")):
        if all(held != modality for held, _ in work):  # a fitted file has the means of both
            raise I0TError(
                f"fit: no shards of {modality}s, and both are needed. Give {flag}, or a folder with {folder}."
            )
    check_outputs({"--output": output}, [str(shard.path) for _, shard in work])
    ensure_folder(output.parent)  # before reading, which may take hours
    remover = fit_shards(choice.make, work, engine)
    _say_fitted(remover, remover.save(output))


def merge(files: Sequence[str], remover: str | None, output: Path) -> None:
    """Merge fitted files without common shards, and save the result."""
    check_outputs({"--output": output}, files)
    removers = [load_remover(path, remover) for path in files]
    known: dict[str, str] = {}
    for path, fitted in zip(files, removers):
        for digest in _digests(fitted.origin):
            if digest in known:
                raise I0TError(
                    f"{path}: the same {digest.split()[0]} vectors are in {known[digest]}; they would count twice."
                )
            known[digest] = path
    merged = reduce(lambda one, other: one.merge(other), removers)
    merged.origin = Origin(merged=tuple(fitted.origin for fitted in removers))
    _say_fitted(merged, merged.save(output))


def _digests(origin: Origin) -> list[str]:
    own = [f"{modality} {held['sha256']}" for modality, held in (origin.shards or {}).items()]
    return own + [digest for part in origin.merged for digest in _digests(part)]


def _say_fitted(remover: GapRemover, path: Path) -> None:
    print(
        f"{remover!r}: {remover.n_images_} images, {remover.n_texts_} texts, fingerprint {remover.fingerprint}\n{path}"
    )


if __name__ == "__main__":
    sys.exit(main())
