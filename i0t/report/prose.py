"""The sentences of the report: results and methods in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from i0t.gap import severity
from i0t.report.calibration_curve import DRAWS
from i0t.report.measurements import PEAK_FACTOR, PEAKS
from i0t.report.recall import RESAMPLES

FEW = 100  # with fewer tested items, all numbers are rough
FILES = (".safetensors", ".pt", ".pth", ".npy")
LOW = 0.19  # centroid distance from which a gap counts as moderate (paper section 3.1)


def title(metadata: dict[str, Any]) -> str:
    """Model and data set, without repetition; of a file only its name."""
    names = [str(metadata[key]) for key in ("model", "dataset") if metadata.get(key)]
    return (
        " · ".join(dict.fromkeys(Path(name).stem if Path(name).suffix in FILES else name for name in names))
        or "Embeddings"
    )


def headline(measured: dict[str, Any]) -> str:
    """Size of the gap, and the effect of removing it."""
    distance, found = measured["measures"]["centroid_distance"], measured["severity"]
    size = f"{distance['before']:.3f} apart on a scale from 0 to 2 ({found['before']})"
    first = f"This model keeps images in one place and texts in another, {size}"
    if found["before"] == "low":
        first = f"This model puts images and texts nearly in the same place, {size}"
    return (
        f"{first}; subtracting each side’s mean, measured on {measured['counts']['calibration']:,} other "
        f"{measured['unit']}, leaves {distance['after']:.3f} ({found['after']}).{_retrieval(measured)}"
    )


def _retrieval(measured: dict[str, Any]) -> str:
    if not measured["recall"]:
        return ""
    found = {}
    for direction in ("i2t", "t2i"):
        before, after = (f"{measured['recall'][direction][name][0]:.1f} %" for name in ("before", "after"))
        found[direction] = f"in {after} of cases" + (", as before" if after == before else f" instead of {before}")
    return f" An image then finds its own text first {found['i2t']}, a text its own image {found['t2i']}."


def protocol(measured: dict[str, Any]) -> str:
    """Which items gave the means and which were tested."""
    counts, unit = measured["counts"], measured["unit"]
    return (
        f"the means come from {counts['calibration']:,} {unit}, drawn at random from this file; the other "
        f"{counts['tested']:,} are tested, before and after."
    )


def notes_on(measured: dict[str, Any]) -> list[str]:
    """Warnings for the top of the page."""
    notes = []
    tested, unit = measured["counts"]["tested"], measured["unit"]
    if tested < FEW:
        notes.append(f"Only {tested} {unit} are tested: all numbers on this page are rough.")
    if not measured["recall"]:
        notes.append("These embeddings name no pairs: retrieval and the measures of matched pairs are left out.")
    return notes


def columns(measured: dict[str, Any]) -> dict[str, list[str]]:
    """Name, explanation and, if it has one, key of the definition of each column of the table."""
    counts, unit = measured["counts"], measured["unit"]
    tested = f"tested {counts['tested']:,} {unit}"
    return {
        "all": ["Whole file", "all items, as they are"],
        "before": ["Before", tested],
        "after": ["After", f"{tested}, held-out means", "held_out"],
        "leak": ["Test means", f"{tested}; leak", "test_means"],
    }


def captions(measured: dict[str, Any]) -> dict[str, str]:
    """The sentence under each figure's title."""
    return {
        "sphere": _sphere(measured),
        "cosines": _cosines(measured),
        "activations": _activations(measured),
        "calibration": _calibration(measured),
        "recall": _recall(measured),
        "search": _search(measured["search"]),
    }


def _sphere(measured: dict[str, Any]) -> str:
    shown, counts = measured["sphere"], measured["counts"]
    images, texts = len(shown["image_ids"]), len(shown["texts"])
    part = "" if images == counts["tested_images"] else f" (drawn from {counts['tested_images']:,} tested images)"
    how = "UMAP with haversine output" if shown["projection"] == "umap" else "the first three principal components"
    return f"{images:,} images and {texts:,} texts{part}, laid out by {how}; each sphere has its own layout."


def _cosines(measured: dict[str, Any]) -> str:
    before, after = (
        {kind: found["mean"] for kind, found in measured["cosines"][stage].items()} for stage in ("before", "after")
    )
    if "matched" not in before:
        return "No pairs are known, so matched ones are missing. Heights are shares of the pairs on one scale."
    closer = " and ".join(
        f"two random {kind}" for kind in ("images", "texts") if before.get(kind, -1) > before["matched"]
    )
    first = f"{closer.capitalize()} are on average closer than an image and its own caption; " if closer else ""
    rest = max(after.get(kind, -1) for kind in ("images", "texts", "unmatched"))
    order = "above" if after["matched"] > rest else "not above"
    return (
        f"{first}{'a' if first else 'A'}fter removal matched pairs lie {order} all others on average. Dashed: mean of "
        "the matched. Heights are shares of the pairs, on one scale."
    )


def _activations(measured: dict[str, Any]) -> str:
    found = measured["activations"]
    named = ", ".join(str(dimension) for dimension in found["carriers"])
    share = found["carried"]
    carried = "" if math.isnan(share) else f" Dimensions {named} alone carry {100 * share:.0f} % of the squared gap."
    return (
        f"Means over unit vectors; dimensions with large means before ({PEAK_FACTOR} times the median or more, at most "
        f"{PEAKS} of each modality) are marked in both panels.{carried}"
    )


def _calibration(measured: dict[str, Any]) -> str:
    curve = measured["calibration"]
    needed = math.ceil((curve["c"] / LOW) ** 2) if curve["c"] else 0
    unit = measured["unit"]
    last = float(np.mean(curve["distances"][-1]))
    return (
        f"Means of n {unit}, tested on all others; {DRAWS} random draws each (pale) and their mean. With n = "
        f"{curve['n'][-1]:,} on average {last:.3f} is left ({severity(last)}). The law with c = {curve['c']:.2f} is "
        f"within {100 * curve['worst_misfit']:.0f} % of the means; by this law, {needed:,} {unit} are enough to get "
        f"below {LOW} (low) on an endless stream."
    )


def _recall(measured: dict[str, Any]) -> str:
    if not measured["recall"]:
        return "Not defined without pairs."
    changes = []
    for direction, name in (("i2t", "image to text"), ("t2i", "text to image")):
        change, low, high = measured["recall"][direction]["after"][3:]
        verdict = "more than chance" if low > 0 or high < 0 else "within chance"
        changes.append(f"{name} {_signed(change)} points ({_signed(low)} to {_signed(high)}: {verdict})")
    counts = measured["counts"]
    return (
        f"{counts['tested_images']:,} images and {counts['tested_texts']:,} texts. Change with held-out means: "
        f"{', '.join(changes)}."
    )


def _search(found: dict[str, Any]) -> str:
    if "skipped" in found:
        return str(found["skipped"])
    rival, best = (found["methods"][found[which]] for which in ("rival", "best"))
    fitted, (change, low, high) = sum(one["fitted"] for one in found["methods"]), best["against"]
    half = (
        " With one text per image no relevant item is of the query’s own kind, so only half of the question can be "
        "judged, and “other kind only” is right by construction."
        if math.isnan(best["own"])
        else ""
    )
    verdict = f"{'' if low > 0 else 'not '}certainly better than every rival"
    return (
        f"{found['groups']:,} images and their texts, in {found['splits']} random splits: one half is searched, the "
        f"other fitted on. Best of the {fitted} methods that are fitted, picked by these results: “{best['label']}” "
        f"with {best['ndcg'][0]:.3f}; best of the rivals, which need no fitting: “{rival['label']}” with "
        f"{rival['ndcg'][0]:.3f}. Difference {_signed(change, 3)} ({_signed(low, 3)} to {_signed(high, 3)}, an "
        f"interval that holds for all of them at once): {verdict}.{half}"
    )


def method(
    measured: dict[str, Any], metadata: dict[str, Any], seed: int, version: str, figures: Sequence[Path]
) -> list[list[str]]:
    """Name and text of the lines of "How this was measured"."""
    counts, unit = measured["counts"], measured["unit"]
    source = metadata.get("source") or ", ".join(map(str, metadata.get("files", []))) or "not recorded"
    known = {"model": "Model", "dataset": "Data set", "split": "Split", "fingerprint": "Fingerprint of the weights"}
    lines = [[name, str(metadata[key])] for key, name in known.items() if metadata.get(key)]
    lines += [
        ["Source", str(source)],
        [
            "Items",
            f"{counts['images']:,} images, {counts['texts']:,} texts, {counts['pairs']:,} pairs, "
            f"{counts['dimensions']:,} dimensions",
        ],
        [
            "After",
            f"I0T_post: subtract each modality's mean, scale to length 1. Means of {counts['calibration']:,} {unit} of "
            f"the same file, drawn at random with seed {seed}; tested on the other {counts['tested']:,}. Items "
            "that are linked by pairs are always in the same part.",
        ],
        ["Test means", "The paper's protocol: means of the tested items themselves. They leak."],
        [
            "Intervals",
            f"95 %, bootstrap over queries ({RESAMPLES:,} resamples, linked queries together), for R@1, and over "
            "images for NDCG@10; no other number has one. The points of the calibration curve are single draws.",
        ],
        ["Made with", f"i0t {version}, seed {seed}"],
    ]
    if figures:
        lines.append(["Figures beside this page", ", ".join(path.name for path in figures)])
    return lines


def _signed(value: float, digits: int = 1) -> str:
    text = f"{abs(value):.{digits}f}"
    return ("" if not float(text) else "−" if value < 0 else "+") + text
