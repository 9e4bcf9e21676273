"""Score the pairs that `i0t score` is asked for: model, calibration, scores, and the files of a run."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from i0t.cli import resolve_roots
from i0t.digests import list_sha256
from i0t.embeddings import Embeddings, load_embeddings
from i0t.encoders import EncodeOptions
from i0t.errors import I0TError
from i0t.files import ensure_folder, write_json
from i0t.gap.pair_doubts import pair_doubts
from i0t.locks import only_writer
from i0t.origin import Origin
from i0t.paths import Roots, say
from i0t.program import on_stop
from i0t.scoring.models import DATASETS, calibration_pairs, default_dataset, scoring_model
from i0t.scoring.output import model_line, write_csv
from i0t.scoring.pairs import ScoredPair
from i0t.scoring.percentiles import Calibration, calibrate
from i0t.scoring.resume import PartialScores, Rows
from i0t.scoring.scorer import PairScorer
from i0t.standardize.registry import RemoverChoice

if TYPE_CHECKING:
    from i0t.encoders.encoder import Encoder

RECORD = "scores.json"  # in --output


@dataclass(frozen=True)
class ScoreOptions:
    """Options of the program."""

    pairs: tuple[ScoredPair, ...]
    is_list: bool  # whether the pairs come from a file, which may be long
    model: str  # as for `scoring_model`
    calibrate_on: tuple[str, ...]  # files of vectors, or a data set; empty: the first data set that is present
    calibration_pairs: int  # number of pairs of a data set
    choice: RemoverChoice
    prefix: str  # put before every text
    encoding: EncodeOptions
    output: str  # folder of the record, and of the sample's model
    csv: str | None  # files to write
    json: str | None
    device: str | None  # None: the best
    seed: int  # of calibration pairs, of their split and of untrained weights
    data_dir: str | None  # instead of the path files
    data_dir_sub: str | None
    false_alarms: float | None = None  # share, for marks and p-values


def score(options: ScoreOptions) -> tuple[Rows, dict[str, Any]]:
    """Score all pairs; return the rows and the protocol, and write the files."""
    _require_images(options)
    for target in (options.json, options.csv):
        if target:
            ensure_folder(Path(target).absolute().parent)  # before encoding, which may take hours
    folder = ensure_folder(options.output)
    with ExitStack() as locks:
        for path in filter(None, (partial_path(options), folder / RECORD)):
            locks.enter_context(only_writer(path))
        return _score_here(folder, options)


def _score_here(folder: Path, options: ScoreOptions) -> tuple[Rows, dict[str, Any]]:
    roots = resolve_roots(options.data_dir, options.data_dir_sub)
    encoder, note = scoring_model(options.model, roots, folder, options.device, options.encoding.workers, options.seed)
    say(f"model: {model_line(encoder.name, note)}")
    embeddings = _calibration_embeddings(encoder, roots, options)
    for doubt in pair_doubts(embeddings, options.seed):
        say(f"calibration: {doubt}")
    calibration = calibrate(embeddings, options.choice.make, options.seed)
    protocol = {**_protocol(encoder, embeddings, calibration, options), "model_note": note}
    rows, partial = _score(encoder, calibration, protocol, options)
    if options.false_alarms is not None:
        protocol |= {"false_alarms": options.false_alarms, "cutoffs": calibration.known_cutoffs(options.false_alarms)}
        rows = [{**row, **calibration.judged(row, options.false_alarms)} for row in rows]
    _write(rows, protocol, options)
    partial.remove()
    return rows, protocol


def partial_path(options: ScoreOptions) -> Path | None:
    """Where the scores of a list are kept until all are there: beside the file to write; None keeps nothing."""
    target = options.csv or options.json
    return Path(f"{target}.partial") if target else None


def _require_images(options: ScoreOptions) -> None:
    """Raise an error for missing images before a model is loaded or trained."""
    images = dict.fromkeys(image for pair in options.pairs for image in pair.images)
    missing = [image for image in images if not os.path.isfile(image)]  # not Path's, which fails for long names
    if missing and not options.encoding.skip_unreadable:
        raise I0TError(
            f"{missing[0]}: no such image ({len(missing)} of {len(images)} are missing). Correct the path, or go on "
            "without them: --skip-unreadable."
        )


def _calibration_embeddings(encoder: Encoder, roots: Roots, options: ScoreOptions) -> Embeddings:
    """Get calibration pairs of this model, from the user's vectors or from a data set."""
    named = options.calibrate_on or (default_dataset(roots),)
    if len(named) == 1 and named[0] in DATASETS:
        return calibration_pairs(
            encoder, named[0], roots, options.prefix, options.calibration_pairs, options.seed, options.encoding
        )
    vectors = load_embeddings(named)
    mine = Origin(model=encoder.name, fingerprint=encoder.fingerprint, dim=encoder.embed_dim)
    try:
        mine.require_same_model(vectors.origin, "the scored vectors")
    except I0TError as error:
        raise I0TError(f"--calibrate-on {' '.join(named)}: {error}") from None
    if not all(text.startswith(options.prefix) for text in vectors.texts):
        say(
            f"{' '.join(named)}: not all of its texts begin with {options.prefix!r}, as the scored texts do. "
            "Percentiles are wrong if they were encoded without it: encode them with it, or set --prefix to theirs."
        )
    return vectors


def _protocol(
    encoder: Encoder, embeddings: Embeddings, calibration: Calibration, options: ScoreOptions
) -> dict[str, Any]:
    """All that the scores depend on."""
    from i0t.encoders.precision import resolve_precision

    return {
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "method": options.choice.name,
        "prefix": options.prefix,
        "calibration": embeddings.name,
        "calibration_is_built_in_sample": bool(embeddings.metadata.get("built_in_sample")),
        "calibration_pairs": calibration.n_pairs,
        "calibration_fingerprint": calibration.remover.fingerprint,
        "calibration_sha256": list_sha256([embeddings.items_sha256, embeddings.features_sha256]),
        "seed": options.seed,
        "precision": resolve_precision(encoder.device, options.encoding.precision),
        "exif_orientation": options.encoding.exif_orientation,
        "calibration_exif_orientation": embeddings.metadata.get("exif_orientation"),
    }


def _score(
    encoder: Encoder, calibration: Calibration, protocol: dict[str, Any], options: ScoreOptions
) -> tuple[Rows, PartialScores]:
    """Score all pairs, except those that an interrupted run has scored."""
    partial = PartialScores(partial_path(options), protocol)
    if partial.known:
        say(f"{partial.path}: {len(partial.known)} pairs of an interrupted run are read from it")
    how = replace(options.encoding, progress=False)  # the bar below shows pairs
    scorer = PairScorer(encoder, calibration, options.prefix, how)
    rows: Rows = []

    def where() -> str:
        kept = f"{partial.path} keeps them, and the same command goes on from there"
        so_far = f"{len(rows)} of {len(options.pairs)} pairs are scored"
        return f"{so_far}; {kept if partial.path else 'without --csv or --json they are not kept'}"

    bar = tqdm(total=len(options.pairs), desc="pairs", disable=None if options.is_list else True, leave=False)
    with bar, on_stop(where):
        for chunk in partial.score(options.pairs, scorer.score):
            rows += chunk
            bar.update(len(chunk))
    return rows, partial


def _write(rows: Rows, protocol: dict[str, Any], options: ScoreOptions) -> None:
    """Write all files."""
    if options.csv:
        write_csv(options.csv, rows)
    for path in (options.json, Path(options.output) / RECORD):
        if path:
            write_json(path, {"protocol": protocol, "rows": rows})
