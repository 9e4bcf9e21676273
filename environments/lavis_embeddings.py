"""Program: write `Embeddings` files with LAVIS' own BLIP and BLIP-2. `scripts/lavis_embeddings.sh`.

It runs in the environment of `scripts/setup_lavis.sh` and uses the code of the evaluations, so that items, texts
and labels are the same. The evaluations read the files with `--embeddings FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lavis_models import EVA, MODELS, VOCABULARY, LocalFiles, load_lavis

from evaluation.classification import Classification
from evaluation.correlation import Correlation
from evaluation.options import EvaluationOptions, add_task_flags, task_of
from evaluation.retrieval import Retrieval
from evaluation.run import encode_dataset
from evaluation.task import Task
from i0t.cli import (
    Parser,
    add_common_flags,
    add_encoding_flags,
    add_partial_flag,
    device_of,
    encode_options,
    program,
    roots_of,
)
from i0t.data.datasets import datasets_of, load_dataset
from i0t.digests import list_sha256
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder
from i0t.paths import TENSORS, Roots, say

TASKS: tuple[type[Task], ...] = (Retrieval, Classification, Correlation)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="lavis_embeddings",
        description="Embeddings files from LAVIS' own BLIP and BLIP-2, for the evaluations' --embeddings FILE.",
    )
    parser.add_argument("--model", choices=tuple(MODELS), required=True, help="LAVIS' feature extractor")
    datasets = [dataset for task in TASKS for dataset in datasets_of(task.kind)]
    parser.add_argument(
        "--dataset",
        action="append",
        choices=datasets,
        metavar="NAME",
        help=f"may be repeated (default: all present): {', '.join(datasets)}",
    )
    group = parser.add_argument_group("weights (without --checkpoint: LAVIS' file in <data_dir>, else its download)")
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="LAVIS' file; nothing is downloaded")
    group.add_argument("--vision-checkpoint", type=Path, metavar="FILE", help="eva_vit_g.pth, which blip2 needs, too")
    group.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt of bert-base-uncased")
    for task in TASKS:
        add_task_flags(parser, task)
    add_partial_flag(parser)
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS), batch_size=32, seed=0)
    return parser.parse_args(argv)


def local_files(
    model: str, checkpoint: Path | None, others: tuple[Path | None, ...], roots: Roots
) -> LocalFiles | None:
    """Find the files: from flags, else in `<data_dir>`; None without a checkpoint, which LAVIS then downloads.

    Raises:
        I0TError: a named file does not exist.
    """

    def find(named: Path | None, place: str) -> Path | None:
        if named is not None and not named.is_file():
            raise I0TError(f"{named}: no such file.")
        usual = None if roots.main is None else roots.main / place
        return named or (usual if usual and usual.is_file() else None)

    checkpoint = find(checkpoint, MODELS[model][2])
    vision, vocabulary = (find(named, place) for named, place in zip(others, (EVA, VOCABULARY), strict=True))
    return None if checkpoint is None else LocalFiles(checkpoint, vision, vocabulary)


def produce(encoder: Encoder, dataset: str, roots: Roots, options: EvaluationOptions, folder: Path) -> Path:
    """Encode one data set as its evaluation does; return the path of the file."""
    say(f"{options.task.name}: {dataset} with {encoder.name}")
    embeddings, _ = encode_dataset(encoder, load_dataset(dataset, roots, options.allow_partial), options)
    embeddings.metadata.update(producer=f"salesforce-lavis {version('salesforce-lavis')}")
    items = list_sha256([encoder.fingerprint, embeddings.items_sha256])
    name = f"{options.task.name}-{dataset}-{encoder.name}-{items[:8]}.embeddings.safetensors"
    return embeddings.save(folder / name)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    flags = parse(argv)
    folder, roots = ensure_folder(flags.output), roots_of(flags)
    wanted = [
        (task, dataset)
        for task in TASKS
        for dataset in datasets_of(task.kind, None if flags.dataset else roots)
        if not flags.dataset or dataset in flags.dataset
    ]
    if not wanted:
        raise I0TError(f"{roots.main}, {roots.sub}: none of the data sets is present. See the README for the layout.")
    files = local_files(flags.model, flags.checkpoint, (flags.vision_checkpoint, flags.vocabulary), roots)
    encoder = load_lavis(flags.model, files, device_of(flags))
    paths = []
    for task, dataset in wanted:
        options = EvaluationOptions(task_of(flags, task), encode_options(flags), allow_partial=flags.allow_partial)
        paths.append(produce(encoder, dataset, roots, options, folder))
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
