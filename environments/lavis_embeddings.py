"""Program: `Embeddings` files from LAVIS' own BLIP and BLIP-2. `scripts/lavis_embeddings.sh`.

It runs in the environment of `scripts/setup_lavis.sh` and embeds through the three evaluations' own code, so that
items, texts and labels are theirs; they take the files with `--embeddings FILE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lavis_models import EVA, MODELS, VOCABULARY, LocalFiles, load_lavis

from evaluation.classification import Classification
from evaluation.completeness import completeness
from evaluation.correlation import Correlation
from evaluation.retrieval import Retrieval
from evaluation.run import embed_dataset
from evaluation.task import Task
from i0t.cli import add_common_flags, add_encoding_flags, add_partial_flag, device_of, program, workers_of
from i0t.data.roots import roots_of
from i0t.encoders.encoder import Encoder
from i0t.errors import I0TError
from i0t.files import ensure_folder, list_sha256
from i0t.paths import TENSORS, Roots, say

TASKS: tuple[Task, ...] = (Retrieval(), Classification(), Correlation())


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="lavis_embeddings",
        description="Embeddings files from LAVIS' own BLIP and BLIP-2, for the evaluations' --embeddings FILE.",
    )
    parser.add_argument("--model", choices=tuple(MODELS), required=True)
    datasets = [dataset for task in TASKS for dataset in task.datasets]
    parser.add_argument("--dataset", action="append", choices=datasets, help="may be repeated (default: all present)")
    group = parser.add_argument_group("weights (without --checkpoint: LAVIS' file in <data_dir>, else its download)")
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="LAVIS' file; nothing is downloaded")
    group.add_argument("--vision-checkpoint", type=Path, metavar="FILE", help="eva_vit_g.pth, which blip2 needs, too")
    group.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt of bert-base-uncased")
    for task in TASKS:
        task.add_flags(parser)
    add_partial_flag(parser)
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS), batch_size=32, seed=0)
    return parser.parse_args(argv)


def local_files(options: argparse.Namespace, roots: Roots) -> LocalFiles | None:
    """The files given, else those in `<data_dir>`; None without a checkpoint, which LAVIS then downloads.

    Raises:
        I0TError: a file given is not there.
    """

    def find(given: Path | None, place: str) -> Path | None:
        if given is not None and not given.is_file():
            raise I0TError(f"{given}: no such file.")
        usual = None if roots.main is None else roots.main / place
        return given or (usual if usual and usual.is_file() else None)

    checkpoint = find(options.checkpoint, MODELS[options.model][2])
    vision, vocabulary = find(options.vision_checkpoint, EVA), find(options.vocabulary, VOCABULARY)
    return None if checkpoint is None else LocalFiles(checkpoint, vision, vocabulary)


def produce(task: Task, encoder: Encoder, dataset: str, roots: Roots, options: argparse.Namespace) -> Path:
    """Embed one data set as its evaluation does; returns the path of the file written."""
    say(f"{task.name}: {dataset} with {encoder.name}")
    complete = completeness(dataset, roots, options)
    embeddings = embed_dataset(task, encoder, dataset, roots, options)
    embeddings.metadata.update(complete, producer=f"salesforce-lavis {version('salesforce-lavis')}")
    items = list_sha256([encoder.fingerprint, *embeddings.image_ids, *embeddings.texts])
    name = f"{task.name}-{dataset}-{encoder.name}-{items[:8]}.embeddings.safetensors"
    return embeddings.save(Path(options.output) / name)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    ensure_folder(options.output)
    roots, options.workers = roots_of(options), workers_of(options)
    jobs = [
        (task, dataset)
        for task in TASKS
        for dataset in task.datasets
        if (dataset in options.dataset if options.dataset else task.is_present(dataset, roots))
    ]
    if not jobs:
        raise I0TError(f"{roots.main}, {roots.sub}: none of the data sets is there. See the README for the layout.")
    encoder = load_lavis(options.model, local_files(options, roots), device_of(options))
    paths = [produce(task, encoder, dataset, roots, options) for task, dataset in jobs]
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
