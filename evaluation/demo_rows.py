"""The rows of the demo's tables: which checkpoint and gap remover, what is measured, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from evaluation.classification import Classification
from evaluation.correlation import Correlation
from evaluation.demo_figures import classification_figures, correlation_figures, mixed_figures, retrieval_figures
from evaluation.estimates import Estimate
from evaluation.options import EvaluationOptions
from evaluation.retrieval import Retrieval
from evaluation.run import Result, TrainingPairs, encode_dataset, evaluate
from evaluation.task import Task
from i0t.data.datasets import load_dataset
from i0t.embeddings import Embeddings
from i0t.encoders import EncodeOptions
from i0t.encoders.encoder import Encoder
from i0t.paths import Roots
from i0t.search.methods import label_of, scores_of
from i0t.search.rivals import RIVALS
from i0t.search.scores import FORMS
from i0t.standardize.fitting import fit_remover
from i0t.standardize.registry import NONE, RemoverChoice

FIRST = "stage1"  # the row that others are compared with


class Row(NamedTuple):
    """One row of the tables."""

    title: str
    stage: str  # checkpoint
    remover: RemoverChoice = RemoverChoice(NONE)
    fit_on: str = "test"  # where the means come from


class Measured(NamedTuple):
    """One data set, how its items are encoded, and the figures that are taken from it."""

    task: Task
    dataset: str
    figures: Callable[[Embeddings, Any], dict[str, Estimate]]  # of embeddings after gap removal, and their data set
    recorded: bool = True  # whether it also gets a record, with all measures of the gap


class Evaluated(NamedTuple):
    """Embeddings of one row and data set, as encoded and after its gap removal, and the result to save."""

    encoded: Embeddings
    moved: Embeddings
    result: Result | None


class Column(NamedTuple):
    """One column: a figure, its header in two lines, and the number of decimals."""

    figure: str
    header: str
    decimals: int


ROWS = {  # keys of results.json
    FIRST: Row("stage 1", "stage1"),
    "mind_the_gap_0.375": Row("Mind-the-Gap, .375", "stage1", RemoverChoice("mind_the_gap", {"shift_lambda": 0.375})),
    "mind_the_gap_0.5": Row("Mind-the-Gap, .5", "stage1", RemoverChoice("mind_the_gap", {"shift_lambda": 0.5})),
    "i0t_async": Row("I0T_async", "async"),
    "i0t_post": Row("I0T_post, test means", "stage1", RemoverChoice("i0t_post")),
    "i0t_post_train_means": Row("I0T_post, train means", "stage1", RemoverChoice("i0t_post"), "train"),
}
MEASURED = {
    "retrieval": Measured(Retrieval(), "flickr", retrieval_figures),
    "mixed": Measured(Retrieval(captions_per_image=5), "flickr", mixed_figures, recorded=False),
    "classification": Measured(Classification(), "birdsnap", classification_figures),
    "expert": Measured(Correlation(), "flickr8k_expert", partial(correlation_figures, name="expert_tau_c")),
    "cf": Measured(Correlation(), "flickr8k_cf", partial(correlation_figures, name="cf_tau_b")),
}
VALUES = (
    Column("centroid_distance", "CD", 3),
    Column("mixed_ndcg", "mixed\nNDCG", 3),
    Column("ndcg_other", "other\nkind", 3),
    Column("one_scale", "one\nscale", 1),
    Column("i2t_r1", "I2T\nR@1", 1),
    Column("t2i_r1", "T2I\nR@1", 1),
    Column("accuracy", "acc.", 1),
    Column("expert_tau_c", "Expert\ntau-c", 1),
    Column("cf_tau_b", "CF\ntau-b", 1),
)
DIFFERENCES = (
    Column("centroid_distance", "CD", 3),
    Column("mixed_ndcg", "mixed NDCG", 3),
    Column("one_scale", "one scale", 1),
    Column("mean_r1", "mean R@1", 1),
    Column("accuracy", "acc.", 1),
)
SEARCH = (
    Column("mixed_ndcg", "NDCG@10", 3),
    Column("ndcg_other", "other kind", 3),
    Column("ndcg_own", "own kind", 3),
)
METHODS = {  # the others have the names of search-eval
    "raw": "one index, as encoded",
    "i0t_post": "one index, I0T_post",
    **{scores_of("i0t_post", form): f"I0T_post + {form}" for form in FORMS},
}


def evaluate_rows(encoders: Mapping[str, Encoder], roots: Roots) -> dict[str, dict[str, Evaluated]]:
    """Embeddings and results by row, then by key of `MEASURED`; the rows of a checkpoint share its embeddings."""
    datasets = {measured.dataset: load_dataset(measured.dataset, roots) for measured in MEASURED.values()}
    encoded: dict[tuple[str, str], Any] = {}
    rows: dict[str, dict[str, Evaluated]] = {name: {} for name in ROWS}
    for name, row in ROWS.items():
        encoder, training_pairs = encoders[row.stage], None
        for key, measured in MEASURED.items():
            how, dataset = _how(row, measured), datasets[measured.dataset]
            if (row.stage, key) not in encoded:
                encoded[row.stage, key] = encode_dataset(encoder, dataset, how)
            embeddings, prefix = encoded[row.stage, key]
            training_pairs = training_pairs or TrainingPairs(encoder, roots, how)
            calibration = partial(training_pairs, prefix)
            result = evaluate(embeddings, dataset, how, encoder, calibration) if measured.recorded else None
            remover = result.remover if result else fit_remover(row.remover, row.fit_on, embeddings, calibration)
            moved = remover.transform_embeddings(embeddings, check_overlap=False) if remover else embeddings
            rows[name][key] = Evaluated(embeddings, moved, result)
    return rows


def _how(row: Row, measured: Measured) -> EvaluationOptions:
    flags = {"remove_gap": row.remover.name, **row.remover.parameters, "fit_on": row.fit_on}
    return EvaluationOptions(
        task=measured.task,
        encoding=EncodeOptions(),  # no workers: they take longer to start than these images to decode
        remover=row.remover,
        fit_on=row.fit_on,
        flags={**flags, "dataset": [measured.dataset], "seed": 0, "bootstrap": 0},
    )


def figures_of(row: Mapping[str, Evaluated], roots: Roots) -> dict[str, Estimate]:
    """All figures of a row."""
    figures: dict[str, Estimate] = {}
    for key, measured in MEASURED.items():
        figures |= measured.figures(row[key].moved, load_dataset(measured.dataset, roots))
    return figures


def plain_row(figures: Mapping[str, Estimate], first: Mapping[str, Estimate], name_of_first: str) -> dict[str, Any]:
    """Make a row of results.json: values, their intervals, and differences to another with paired intervals."""
    differences = {name: figure - first[name] for name, figure in figures.items()}
    return {
        **{name: round(figure.value, 4) for name, figure in figures.items()},
        "intervals": {name: _rounded(figure.interval) for name, figure in figures.items()},
        f"minus_{name_of_first}": {
            name: _rounded((found.value, *found.interval)) for name, found in differences.items()
        },
    }


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 4) for value in values]


def value_table(figures: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Format the figures of all rows, at most 88 columns wide."""
    rows = [
        [ROWS[name].title, *(f"{found[column.figure].value:.{column.decimals}f}" for column in VALUES)]
        for name, found in figures.items()
    ]
    return _aligned(["", *(column.header for column in VALUES)], rows)


def difference_table(figures: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Format the differences of all other rows to stage 1, with their paired 95 % intervals."""
    rows = [
        [ROWS[name].title, *(_difference(found, figures[FIRST], column) for column in DIFFERENCES)]
        for name, found in figures.items()
        if name != FIRST
    ]
    return _aligned(["minus stage 1", *(column.header for column in DIFFERENCES)], rows)


def search_table(by_method: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Format mixed search with the embeddings of stage 1 by method, and its differences to the best rival."""
    rival = best_rival(by_method)
    rows = [
        [
            METHODS.get(name) or label_of(name),
            *(_with_margin(found[column.figure], column.decimals) for column in SEARCH),
            "" if name == rival else _difference(found, by_method[rival], SEARCH[0]),
        ]
        for name, found in by_method.items()
    ]
    return _aligned(["mixed search, stage 1", *(column.header for column in SEARCH), "minus best rival"], rows)


def best_rival(by_method: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Name of the rival that ranks these queries best, so that it looks a little better than it is."""
    return max((name for name in RIVALS if name in by_method), key=lambda name: by_method[name]["mixed_ndcg"].value)


def _with_margin(found: Estimate, decimals: int) -> str:
    return f"{found.value:.{decimals}f} ±{found.margin:.{decimals}f}"


def _difference(found: Mapping[str, Estimate], first: Mapping[str, Estimate], column: Column) -> str:
    difference = found[column.figure] - first[column.figure]
    return f"{difference.value:+.{column.decimals}f} ±{difference.margin:.{column.decimals}f}"


def _aligned(headers: list[str], rows: list[list[str]]) -> str:
    """Format a table; tabulate would widen every column beyond its header."""
    heads = list(zip(*(["", *header.split("\n")][-2:] for header in headers), strict=True))
    heads = [line for line in heads if any(line)]
    widths = [max(map(len, column)) for column in zip(*heads, *rows, strict=True)]
    lines = [*heads, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(_cells(line, widths)).rstrip() for line in lines)


def _cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    title, *values = line
    return [title.ljust(widths[0]), *(value.rjust(width) for value, width in zip(values, widths[1:], strict=True))]
