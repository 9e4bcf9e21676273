"""Program: score captions, texts and pictures against one another on one scale. `i0t score`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from i0t.cli import add_common_flags, add_encoding_flags, encode_options, program, workers_of
from i0t.commands.vectors import read_vectors
from i0t.data.roots import roots_of
from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.metrics.caption_scores import PREFIX
from i0t.origin import Origin
from i0t.paths import TENSORS, Roots, say
from i0t.scoring.calibration import Calibration, calibrate
from i0t.scoring.models import DATASETS, SAMPLE, calibration_pairs, default_dataset, scoring_model
from i0t.scoring.output import model_line, scores_table, write_csv
from i0t.scoring.pairs import ScoredPair, all_pairs, read_pairs
from i0t.scoring.resume import PartialScores, Rows
from i0t.scoring.scorer import PairScorer
from i0t.standardize.registry import add_remover_flags, remover_choices

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

DESCRIPTION = """\
Score a picture with a caption, or a whole list of them. I0T-S is the cosine after the modality gap is removed, so that
pictures with captions, captions with captions and pictures with pictures stand on one scale; its percentiles say what a
score means: where it lies among pairs that belong together, and among pairs that do not.
"""
EPILOG = """\
columns
  CLIP-S, PAC-S    2.5 and 2 times max(cosine, 0) by this model (PAC-S proper is that of --model pacscore)
  I0T-S            cosine of standardised features
  matched %        share of the calibration set's pictures with their own captions that score lower
  unmatched %      the same among pictures with another's caption: 99 beats all but 1 in 100 wrong captions
  Scores of the calibration set are of halves that were standardised by the other half.

a list (--pairs FILE.csv or FILE.json, a list of objects) has the columns
  image, caption            and references, a JSON list or one text, for the reference-based scores
  image, other_image        two pictures
  caption, other_caption    two texts
  Relative pictures are looked for beside FILE, or in --images DIR. An interrupted run goes on where it stopped.

examples
  i0t score --image photo.jpg --caption "a dog on the grass" --model ViT-B-32-quickgelu/openai
  i0t score --image a.jpg --caption "a dog" --caption "a cat"          every two of these
  i0t score --pairs captions.csv --images pictures --csv scores.csv
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
    parser = argparse.ArgumentParser(
        prog="i0t score", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; may be repeated")
    parser.add_argument("--caption", action="append", default=[], metavar="TEXT", help="a text; may be repeated")
    parser.add_argument("--pairs", metavar="FILE", help="a list to score: .csv or .json, see below")
    parser.add_argument("--images", metavar="DIR", help="with --pairs: where its pictures are")
    parser.add_argument(
        "--model",
        default=SAMPLE,
        metavar="NAME",
        help="a checkpoint, a spec of configs/models, or ARCH/TAG of open_clip; sample (default): the last checkpoint, "
        "or the sample's small model, trained for a minute",
    )
    parser.add_argument(
        "--calibrate-on",
        nargs="+",
        metavar="WHAT",
        help=f"vectors of pairs (a .safetensors or .npy files), or one of {', '.join(DATASETS)} (default: the first "
        "of these that is there; the built-in sample where no path is configured)",
    )
    parser.add_argument("--calibration-pairs", type=int, default=1000, metavar="N", help="of a data set (default 1000)")
    add_remover_flags(parser, "--method", default="i0t_post")
    parser.add_argument("--prefix", default=PREFIX, help=f"put before every text (default {PREFIX!r})")
    parser.add_argument("--json", metavar="FILE", help="write scores and protocol here")
    parser.add_argument("--csv", metavar="FILE", help="write scores here, one row a pair, in order")
    add_encoding_flags(parser)
    add_common_flags(parser)
    parser.set_defaults(output=str(TENSORS / "score"), batch_size=64, seed=0)
    arguments = parser.parse_args(argv)
    if bool(arguments.pairs) == bool(arguments.image or arguments.caption):
        parser.error("give --image and --caption, or --pairs FILE")
    if not arguments.pairs and len(arguments.image) + len(arguments.caption) < 2:
        parser.error("one item has nothing to be compared with: give two or more --image or --caption")
    return arguments


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    options.workers = workers_of(options)
    pairs = read_pairs(options.pairs, options.images) if options.pairs else all_pairs(options.image, options.caption)
    _require_pictures(pairs, options)
    for target in (options.json, options.csv):
        if target:
            ensure_folder(Path(target).absolute().parent)  # before hours of encoding, not after
    roots, folder = roots_of(options), ensure_folder(options.output)
    encoder, note = scoring_model(options.model, roots, options, folder)
    say(f"model: {model_line(encoder.name, note)}")
    embeddings = _calibration_embeddings(encoder, roots, options)
    (choice,) = remover_choices(options, [options.method])
    calibration = calibrate(embeddings, choice.make, options.seed)
    protocol = {**_protocol(encoder, embeddings, calibration, options), "model_note": note}
    rows = _score(pairs, encoder, calibration, protocol, options)
    print(scores_table(rows, protocol))
    return 0


def _require_pictures(pairs: list[ScoredPair], options: argparse.Namespace) -> None:
    """Name a picture that is not there before a model is loaded or trained, not after."""
    images = dict.fromkeys(image for pair in pairs for image in pair.images)
    missing = [image for image in images if not Path(image).is_file()]
    if missing and not options.skip_unreadable:
        raise I0TError(
            f"{missing[0]}: no such picture ({len(missing)} of {len(images)} are missing). Correct the path, or go on "
            "without: --skip-unreadable."
        )


def _calibration_embeddings(encoder: Encoder, roots: Roots, options: argparse.Namespace) -> Embeddings:
    """Calibration pairs from the user's vectors or a data set, of this very model."""
    named = options.calibrate_on or [default_dataset(roots)]
    if len(named) == 1 and named[0] in DATASETS:
        how = encode_options(options, share=False)
        return calibration_pairs(encoder, named[0], roots, options.prefix, options.calibration_pairs, options.seed, how)
    given = read_vectors(named)
    mine = Origin(model=encoder.name, fingerprint=encoder.fingerprint, dim=encoder.embed_dim)
    try:
        mine.require_same_model(given.origin, "the scored vectors")
    except I0TError as error:
        raise I0TError(f"--calibrate-on {' '.join(named)}: {error}") from None
    if not all(text.startswith(options.prefix) for text in given.texts):
        say(
            f"{' '.join(named)}: not all of its texts begin with {options.prefix!r}, as the scored ones will. "
            "Percentiles are off if they were encoded without it: encode them with it, or give their own --prefix."
        )
    return given


def _protocol(
    encoder: Encoder, embeddings: Embeddings, calibration: Calibration, options: argparse.Namespace
) -> dict[str, Any]:
    """All that the scores depend on."""
    return {
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "method": options.method,
        "prefix": options.prefix,
        "calibration": embeddings.metadata.get("dataset"),
        "calibration_is_built_in_sample": bool(embeddings.metadata.get("built_in_sample")),
        "calibration_pairs": calibration.n_pairs,
        "calibration_fingerprint": calibration.remover.fingerprint,
        "seed": options.seed,
    }


def _score(
    pairs: list[ScoredPair],
    encoder: Encoder,
    calibration: Calibration,
    protocol: dict[str, Any],
    options: argparse.Namespace,
) -> Rows:
    """Score all pairs, going on where an interrupted run stopped, and write the files asked for."""
    target = options.csv or options.json
    partial = PartialScores(Path(f"{target}.partial") if target else None, protocol)
    if partial.known:
        say(f"{partial.path}: {len(partial.known)} pairs of an interrupted run are taken from it")
    how = replace(encode_options(options, share=False), progress=False)  # the bar below counts pairs
    scorer = PairScorer(encoder, calibration, options.prefix, how)
    bar = tqdm(total=len(pairs), desc="pairs", disable=None if options.pairs else True, leave=False)
    rows: Rows = []
    for chunk in partial.score(pairs, scorer.score):
        rows += chunk
        bar.update(len(chunk))
    bar.close()
    if options.csv:
        write_csv(options.csv, rows)
    if options.json:
        write_json(options.json, {"protocol": protocol, "rows": rows})
    partial.remove()
    return rows


if __name__ == "__main__":
    sys.exit(main())
