"""The tables of `i0t search-eval`, and what they cannot tell."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from i0t.search.method_tables import cells, method_table
from i0t.search.methods import TEXT_SHARES
from i0t.search.pair_quality import LET_THROUGH
from i0t.search.results import MethodResult, differences, intervals, rivals_in

ONE_KIND = (
    "No relevant item is of {missing} kind{why}, so only half of the question can be judged: what of {found} kind is "
    'found. "{filter} kind only" is then right by construction; of {missing} kind it finds none.'
)
KINDS = ("own", "other", "both")
PERCENT = (*TEXT_SHARES, "let_through", "answered")
FEW = 30  # groups of queries, below which a bootstrap interval is too short


def results_table(results: dict[str, MethodResult], protocol: dict[str, Any], details: bool = False) -> str:
    """Format tables of one row per method, at most 100 columns wide, and notes below.

    Args:
        results: by method.
        protocol: of `evaluate`.
        details: also recall by kind, and how well pairs and queries without an answer are told apart.
    """
    k = protocol["k"]
    tables = [_kinds(k), *(_details(k) if details else ())]
    parts = [_compared(results, k), *(_levels(results, columns) for columns in tables), _notes(results, protocol)]
    return "\n\n".join(part for part in parts if part)


def _kinds(k: int) -> dict[str, str]:
    """Columns by metric: quality by kind, and what fills the list."""
    shares = dict(zip(TEXT_SHARES, (f"texts in\ntop {k}\nof texts", "\n\nof images")))
    return {**{f"ndcg_{kind}": f"NDCG {kind}" for kind in KINDS}, "recall": f"R@{k}", **shares}


def _details(k: int) -> tuple[dict[str, str], ...]:
    """Columns by metric: recall by kind, pairs, and queries without an answer."""
    return (
        {
            **{f"recall_{kind}": f"R@{k} {kind}" for kind in KINDS},
            "above_picture": "AUC",
            "i2t_r1": "R@1\nto text",
            "t2i_r1": "\nto image",
        },
        {
            "kept": "kept",
            "auroc": "nothing matches:\nAUROC",
            "let_through": f"\nfalse alarms ({100 * LET_THROUGH:g} %)",
            "answered": "\nanswered",
        },
    )


def _levels(results: dict[str, MethodResult], columns: dict[str, str]) -> str:
    """Format metrics; columns without a value are left out, and those by kind if all relevant items are of one."""
    found = {metric: cells(results, metric, percent=metric in PERCENT) for metric in columns}
    for family in ("ndcg", "recall"):
        of_kinds = [f"{family}_{kind}" for kind in KINDS if found.get(f"{family}_{kind}")]
        if len(of_kinds) == 1:
            del found[of_kinds[0]]
    known = {columns[metric]: held for metric, held in found.items() if held}
    return method_table(known) if known else ""


def _compared(results: dict[str, MethodResult], k: int) -> str:
    """Format NDCG with its interval, and its paired differences to raw and to the best rival."""
    ranges = intervals(list(results.values()), "ndcg")
    means = {
        name: f"{result.mean()['ndcg']:.3f} ({'unknown' if np.isnan(low) else f'{low:.3f}-{high:.3f}'})"
        for (name, result), (low, high) in zip(results.items(), ranges)
    }
    columns: dict[str, dict[str, Any]] = {f"NDCG@{k} (95 %)": means}
    columns["against raw"] = differences(results, ["raw"], "ndcg")
    columns["against the best rival"] = differences(results, rivals_in(results), "ndcg")
    return method_table(columns)


def _of_splits(protocol: dict[str, Any]) -> str:
    splits = protocol.get("splits")
    return f", mean of {splits} random splits" if splits and splits > 1 else ", one random split" if splits else ""


def _notes(results: dict[str, MethodResult], protocol: dict[str, Any]) -> str:
    """Tell what was searched and fitted, and what the tables cannot tell."""
    result = next(iter(results.values()))
    means, times = result.mean(), _of_splits(protocol)
    relevant = {who: means[f"relevant_{name}"] for name, who in zip(TEXT_SHARES, ("text queries", "image queries"))}
    asked = " and ".join(f"{100 * share:.0f} % for {who}" for who, share in relevant.items() if not np.isnan(share))
    leak = {True: " - these items are evaluated: a leak", None: " - whether they overlap is unknown"}
    fit_on = protocol["fit_on"] if isinstance(protocol["fit_on"], str) else " ".join(protocol["fit_on"])
    index = ", ".join(str(value) if key == "factory" else f"{key} {value}" for key, value in result.index.items())
    several = "images and their texts" if protocol["task"] == "either kind" else "queries"
    own, other = (not np.isnan(means[f"ndcg_{kind}"]) for kind in ("own", "other"))
    the_other, the_own, why = "the other", "the query's own", "" if "qrels" in protocol else " (one text per image)"
    half = [ONE_KIND.format(missing=the_own, why=why, found=the_other, filter="other")] if other and not own else []
    half += [ONE_KIND.format(missing=the_other, why=why, found=the_own, filter="own")] if own and not other else []
    if result.groups < FEW:
        half.append(f"With so few queries ({result.groups}) the intervals are too short.")
    notes = [
        *half,
        f"{result.groups} {'query' if result.groups == 1 else several}{times}; "
        f"{100 * means['corpus_text_share']:.0f} % of the corpus are texts, and of the relevant items {asked}.",
        f"Index: {index}. Fitted on: {fit_on}{leak.get(protocol['means_leak'], '')}.",
    ]
    return "\n".join(textwrap.fill(note, 100) for note in notes)
