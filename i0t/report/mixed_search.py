"""Mixed search on the report page: the results of `i0t search-eval` for the same file."""

from __future__ import annotations

from typing import Any

from i0t.embeddings import Embeddings
from i0t.errors import I0TError
from i0t.search.evaluate import SearchOptions, evaluate
from i0t.search.methods import label_of
from i0t.search.results import MethodResult, best_rival, differences, intervals, joint_level, rivals_in
from i0t.search.rivals import RIVALS
from i0t.search.splits import first_pairs
from i0t.standardize.registry import RemoverChoice, own_names

MOST_IMAGES = 2000  # with a text: more would take longer than the rest of the page


def mixed_search(embeddings: Embeddings, seed: int = 0) -> dict[str, Any]:
    """Search an index of images and texts with every method, as `i0t search-eval` does by default.

    Args:
        embeddings: images with texts.
        seed: of the random halves.

    Returns:
        "methods", one dictionary each in the order of the table: "label", whether it is "fitted", "ndcg" as [value,
        low, high], "own" and "other" (NDCG for relevant items of the query's kind and of the other; NaN if there
        are none), "against" the best other rival as [difference, low, high], an interval that holds for all at once,
        and "own_share", the share of the query's own kind in the top k of text and of image queries. Also "relevant",
        this share among the relevant items; "rival" and "best", rows of "methods": the best without and with fitting;
        "groups", "splits" and "k". Or only "skipped": why there is nothing.
    """
    try:
        images = len(first_pairs(embeddings))
        if images > MOST_IMAGES:
            return {
                "skipped": f"Left out with {images:,} images (at most {MOST_IMAGES:,}): it would take many minutes. "
                "i0t search-eval measures it."
            }
        choices = tuple(RemoverChoice(name) for name in own_names())
        results, protocol = evaluate(embeddings, SearchOptions(embeddings.files, choices, seed=seed))
    except I0TError as error:  # such as images in classes, or several vectors an item
        return {"skipped": f"Not judged: {error}"}
    return {**_compared(results), "splits": protocol["splits"], "k": protocol["k"]}


def _compared(results: dict[str, MethodResult]) -> dict[str, Any]:
    names, held = list(results), list(results.values())
    rivals = rivals_in(results)
    level = joint_level(len(results) - len(rivals))  # as the best of all that is fitted is shown
    first, changes = held[0], differences(results, rivals, "ndcg", level, resamples=10_000)
    columns = zip(names, held, intervals(held, "ndcg"), strict=True)
    methods = [_method(name, result, own, changes[name]) for name, result, own in columns]
    return {
        "methods": methods,
        "relevant": _own_share(first.mean(), "relevant_text_share"),
        "rival": names.index(best_rival(results)),
        "best": max((row for row, one in enumerate(methods) if one["fitted"]), key=lambda row: methods[row]["ndcg"]),
        "groups": first.groups,
    }


def _method(
    name: str, result: MethodResult, interval: tuple[float, float], change: tuple[float, float, float]
) -> dict[str, Any]:
    means = result.mean()
    return {
        "label": label_of(name),
        "fitted": name not in RIVALS,
        "ndcg": [means["ndcg"], *interval],
        "own": means["ndcg_own"],
        "other": means["ndcg_other"],
        "against": list(change),
        "own_share": _own_share(means, "text_share"),
    }


def _own_share(means: dict[str, float], name: str) -> dict[str, float]:
    """Share of the query's own kind, by the kind of the query."""
    return {"text": means[f"{name}_text_queries"], "image": 1 - means[f"{name}_image_queries"]}
