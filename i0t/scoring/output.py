"""Scores as a printed table and as a CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from i0t.files import atomic_path
from i0t.metrics.cutoff import least_scores
from i0t.scoring.percentiles import IMAGE_IMAGE, TEXT_TEXT
from i0t.scoring.scorer import PERCENTILES, PROBABILITY, REF_NAMES, SCORE_NAMES

JUDGED = ("p_value", "above_cutoff")  # with --false-alarms
COLUMNS = ("kind", "first", "second", *SCORE_NAMES, *REF_NAMES, PROBABILITY, *PERCENTILES, *JUDGED, "error")
LABELS = {"clip_s": "CLIP-S", PROBABILITY: "P(match)", "pac_s": "PAC-S", "i0t_s": "I0T-S", "ref_i0t_s": "Ref-I0T-S"}
SIDES = ("first", "second")
SHOWN = 20  # rows of the printed table
WIDTH = 22  # of a name in it

Rows = list[dict[str, Any]]


def write_csv(path: str | Path, rows: Rows) -> None:
    """Write one line per pair, in order; missing scores are empty. What no row has gets no column."""
    columns = [name for name in COLUMNS if name not in (PROBABILITY, *JUDGED) or any(name in row for row in rows)]
    # Half surrogate pairs, and file names that are not UTF-8, are written with backslashes.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def scores_table(rows: Rows, protocol: dict[str, Any]) -> str:
    """Format the first rows, at most 100 columns wide, with unreadable images and the calibration set below."""
    labels = {name: label for name, label in LABELS.items() if any(name in row for row in rows)}
    headers = ["", "", *labels.values(), "matched %", "unmatched %", *(["p"] if "false_alarms" in protocol else [])]
    images = {image for row in rows[:SHOWN] for image in _images(row)}
    names = Counter(Path(image).name for image in images)
    shown = [_shown(row, labels, names) for row in rows[:SHOWN]]
    lines = [tabulate(shown, headers=headers, disable_numparse=True)]
    if len(rows) > SHOWN:
        lines.append(f"... {len(rows)} pairs in all; --csv FILE writes all. Means: {_means(rows, labels)}.")
    errors = [row["error"] for row in rows if row["error"]]
    lines += [f"not scored: {error}" for error in dict.fromkeys(errors)][:SHOWN]
    is_sample = protocol["calibration_is_built_in_sample"]
    sample = (
        " of the built-in sample: drawn shapes,\nwhich say nothing of photographs (--calibrate-on)" if is_sample else ""
    )
    lines.append(f"\nModel: {model_line(protocol['model'], protocol['model_note'])}.")
    lines.append(f"Percentiles among {protocol['calibration_pairs']} pairs of {protocol['calibration']}{sample}.")
    if "false_alarms" in protocol:
        lines.append(_cutoff_line(protocol))
    return "\n".join(lines)


def _cutoff_line(protocol: dict[str, Any]) -> str:
    """Say what the marks mean, or that too few pairs were there to decide."""
    share, cutoffs = protocol["false_alarms"], protocol["cutoffs"]
    if None in cutoffs.values():
        return (
            f"A cutoff with {100 * share:g} % of false alarms is not decidable with {protocol['calibration_pairs']} "
            f"pairs: {2 * least_scores(share) + 2} images with a text are needed."
        )
    ends = ", ".join(f"{kind} {value:.3f}" for kind, value in cutoffs.items())
    return (
        f"*: above the cutoff that about {100 * share:g} % of the pairs that do not match exceed\n"
        f"({ends}).\np: share of them with such a score or a higher one."
    )


def model_line(name: str, note: str) -> str:
    """A model's name, with the note of `scoring_model` if there is one."""
    return f"{name}, {note}" if note else name


def _images(row: dict[str, Any]) -> list[str]:
    return {IMAGE_IMAGE: [row["first"], row["second"]], TEXT_TEXT: []}.get(row["kind"], [row["first"]])


def _shown(row: dict[str, Any], labels: dict[str, str], names_of_images: Mapping[str, int]) -> list[str]:
    images = _images(row)
    names = [_name(row[side], names_of_images) if row[side] in images else _short(row[side]) for side in SIDES]
    if row["error"]:
        return [*names, "unreadable"]
    scores = [f"{row[name]:.3f}" if name in row else "" for name in labels]
    judged = [f"{row['p_value']:.3f}{' *' if row['above_cutoff'] else ''}"] if "p_value" in row else []
    return [*names, *scores, *(f"{row[name]:.1f}" for name in PERCENTILES[:2]), *judged]


def _means(rows: Rows, labels: dict[str, str]) -> str:
    means = {label: np.mean([row[name] for row in rows if name in row]) for name, label in labels.items()}
    return ", ".join(f"{label} {mean:.3f}" for label, mean in means.items())


def _name(image: str, names: Mapping[str, int]) -> str:
    """Base name of an image, or the end of its path if another image has that name."""
    name = Path(image).name
    return _short(name) if names[name] < 2 else "…" + image[1 - WIDTH :] if len(image) > WIDTH else image


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
