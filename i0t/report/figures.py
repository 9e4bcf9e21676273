"""Figures in matplotlib: those of the report, for papers (PNG with 300 dpi, and PDF), and the demo's figure.

They follow the paper's Figs. 1, 3, 4 and 5: UMAP to the 3-D sphere (App. D), cosines, mean activations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0t.embeddings import Embeddings
from i0t.report import ReportOptions
from i0t.report.calibration_curve import spread
from i0t.report.figure_style import (
    AFTER_COLOUR,
    IMAGE_COLOUR,
    MATCHED_COLOUR,
    TEXT_COLOUR,
    UNMATCHED_COLOUR,
    save,
    two_panels,
)
from i0t.report.measurements import cosine_histograms, sphere, unit_pairs
from i0t.report.search_figure import search_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {
    "matched": ("matched", MATCHED_COLOUR),
    "unmatched": ("unmatched", UNMATCHED_COLOUR),
    "images": ("image–image", IMAGE_COLOUR),
    "texts": ("text–text", TEXT_COLOUR),
}
STAGES = {"before": "before", "after": "after (held-out means)"}
VERSIONS = {
    "before": ("before", UNMATCHED_COLOUR, "s"),
    "after": ("after, held-out means", AFTER_COLOUR, "o"),
    "leak": ("after, test means (leak)", AFTER_COLOUR, "^"),
}


def save_figures(measured: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all figures of the numbers of `i0t.report.measurements.measure`; return the paths, .png and .pdf."""
    drawers: dict[str, Callable[[dict[str, Any]], Figure]] = {
        "sphere": _sphere,
        "cosines": _cosines,
        "activations": _activations,
        "calibration": _calibration,
    }
    if measured["recall"]:
        drawers["recall"] = _recall
    if "methods" in measured["search"]:
        drawers["search"] = search_figure
    saved = []
    for name, draw in drawers.items():
        saved += [folder / f"{name}{suffix}" for suffix in (".png", ".pdf")]
        save(partial(draw, measured), saved[-2:])
    return saved


def gap_picture(stages: dict[str, Embeddings], path: str | Path, seed: int = 0) -> Path:
    """Draw the effect of removing the gap in one figure: one row per stage, with the sphere and the cosines.

    Args:
        stages: title to embeddings of the same items, e.g. {"before": ..., "after": ...}.
        path: .png, .pdf or .svg.
        seed: of UMAP, of the shown points and of the pairs.

    Returns:
        `path`.
    """
    items = {title: unit_pairs(embeddings) for title, embeddings in stages.items()}
    points = sphere(next(iter(stages.values())), items, ReportOptions(seed=seed))
    cosines = cosine_histograms(items, seed)

    def draw() -> Figure:
        from matplotlib import pyplot

        figure, rows = pyplot.subplots(
            len(stages), 2, figsize=(7.6, 3.5 * len(stages)), layout="constrained", squeeze=False
        )
        for (left, right), title in zip(rows, stages):
            _draw_sphere(left, points[title], f"{title}: the sphere")
            _draw_cosines(right, cosines, title, f"{title}: cosines")
            right.set_xlim(cosines["edges"][0], cosines["edges"][-1])
            left.legend(loc="lower left", bbox_to_anchor=(-0.16, -0.04), handletextpad=0.2)
        figure.supxlabel(
            "Sphere: UMAP, pale on the far side. Histograms: one scale for all; dashed: mean of matched pairs.",
            fontsize=8,
            color="#444444",
        )
        return figure

    save(draw, [Path(path)], dpi=180)
    return Path(path)


def _sphere(measured: dict[str, Any]) -> Figure:
    figure, both = two_panels(3.7)
    for axes, (stage, title) in zip(both, STAGES.items()):
        _draw_sphere(axes, measured["sphere"][stage], title)
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_sphere(axes: Axes, points: dict[str, list[float]], title: str) -> None:
    """Draw images and texts on the unit sphere, with circles of latitude and longitude; pale on the far side."""
    from matplotlib.patches import Circle

    tilt = np.array([[1, 0, 0], [0, np.cos(0.22), -np.sin(0.22)], [0, np.sin(0.22), np.cos(0.22)]])
    angles = np.linspace(0, 2 * np.pi, 120)
    rings = [
        np.stack([np.cos(lat) * np.cos(angles), np.full(120, np.sin(lat)), np.cos(lat) * np.sin(angles)], axis=1)
        for lat in np.radians([-60, -30, 0, 30, 60])
    ] + [
        np.stack([np.cos(angles) * np.cos(lon), np.sin(angles), np.cos(angles) * np.sin(lon)], axis=1)
        for lon in np.radians(range(0, 180, 30))
    ]
    for ring in rings:
        x, y, z = (ring @ tilt.T).T
        axes.plot(np.where(z >= 0, x, np.nan), y, color="#dddddd", linewidth=0.5, zorder=1)
    size = 6 if len(points["image"]) > 900 else 12
    for side, colour, marker in (("image", IMAGE_COLOUR, "o"), ("text", TEXT_COLOUR, "^")):
        x, y, z = (np.reshape(points[side], (-1, 3)) @ tilt.T).T
        for front, alpha in ((z < 0, 0.15), (z >= 0, 0.7)):
            axes.scatter(x[front], y[front], s=size, c=colour, marker=marker, alpha=alpha, linewidths=0, zorder=2)
        axes.scatter([], [], s=16, c=colour, marker=marker, label=f"{side}s")
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor="#aaaaaa", linewidth=0.7))
    axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), title=title)
    axes.set_axis_off()


def _cosines(measured: dict[str, Any]) -> Figure:
    figure, both = two_panels(3.0, sharex=True)
    for axes, (stage, title) in zip(both, STAGES.items()):
        _draw_cosines(axes, measured["cosines"], stage, title)
    both[1].set_yticks([])
    return figure


def _draw_cosines(axes: Axes, found: dict[str, Any], stage: str, title: str) -> None:
    """Draw histograms per kind of pair, with one scale for all stages; thick lines are means."""
    edges, kinds = np.array(found["edges"]), list(reversed(KINDS.items()))
    most = max(max(kind["shares"]) for name, kinds in found.items() if name != "edges" for kind in kinds.values())
    for row, (kind, (_, colour)) in enumerate(kinds):
        if kind not in found[stage]:
            continue
        heights, mean = np.array(found[stage][kind]["shares"]) / most * 0.9, found[stage][kind]["mean"]
        axes.stairs(row + heights, edges, baseline=row, fill=True, color=colour, alpha=0.3)
        axes.stairs(row + heights, edges, baseline=row, color=colour, linewidth=0.8)
        axes.plot([mean, mean], [row, row + 0.14], color=colour, linewidth=2)
        if kind == "matched":
            axes.axvline(mean, color=colour, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set(title=title, xlabel="cosine", ylim=(0, len(KINDS)))
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    axes.locator_params(axis="x", nbins=5)  # labels that do not touch
    axes.set_yticks(np.arange(len(KINDS)) + 0.15, [label for _, (label, _) in kinds])
    for text, (_, (_, colour)) in zip(axes.get_yticklabels(), kinds):
        text.set_color(colour)


def _activations(measured: dict[str, Any]) -> Figure:
    figure, both = two_panels(2.7, sharey=True)
    found = measured["activations"]
    for axes, (stage, title) in zip(both, STAGES.items()):
        for side, colour, marker in (("image", IMAGE_COLOUR, "o"), ("text", TEXT_COLOUR, "^")):
            mean, peaks = np.array(found[stage][side]), found["peaks"][side]
            axes.vlines(np.arange(len(mean)), 0, mean, color=colour, linewidth=0.6, alpha=0.8)
            axes.scatter(peaks, mean[peaks], s=14, c=colour, marker=marker, label=f"{side}s", zorder=3)
            if stage == "before":
                _name_peaks(axes, peaks, mean, colour)
        axes.axhline(0, color="#888888", linewidth=0.5)
        axes.set(title=title, xlabel="dimension", xlim=(-0.02 * len(mean), 1.02 * len(mean)))
    both[0].set_ylabel("mean activation")
    both[0].margins(y=0.12)
    both[1].legend(loc="upper right")
    return figure


def _name_peaks(axes: Axes, peaks: list[int], mean: np.ndarray, colour: str) -> None:
    for dimension in peaks:
        up = mean[dimension] >= 0
        crowded = any(0 < other - dimension < 0.12 * len(mean) and (mean[other] >= 0) == up for other in peaks)
        axes.annotate(
            str(dimension),
            (dimension, mean[dimension]),
            xytext=(-5 if crowded else 5, 0),
            textcoords="offset points",
            ha="right" if crowded else "left",
            va="bottom" if up else "top",
            color=colour,
            fontsize=8,
        )


def _calibration(measured: dict[str, Any]) -> Figure:
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = pyplot.subplots(figsize=(4.2, 3.0), layout="constrained")
    curve = measured["calibration"]
    n, distances = np.array(curve["n"]), np.array(curve["distances"])
    total = curve["n"][0] + curve["m"][0]
    fine = np.geomspace(n[0], n[-1], 100)
    raw = measured["measures"]["centroid_distance"]["before"]
    axes.axhline(raw, color="black", linewidth=0.9, linestyle=(0, (5, 3)), label=f"before: {raw:.3f}")
    law = curve["c"] * spread(fine, total - fine)
    axes.plot(fine, law, color="black", linewidth=1.0, label=rf"{curve['c']:.2f}$\,\sqrt{{1/n+1/m}}$")
    axes.plot(np.repeat(n, distances.shape[1]), distances.ravel(), ".", color=AFTER_COLOUR, alpha=0.35, markersize=4)
    axes.plot(n, distances.mean(axis=1), "o", color=AFTER_COLOUR, markersize=5, label="after, mean of draws")
    scale = "log" if distances.min() > 0 else "linear"
    axes.set(xscale="log", yscale=scale, xlabel=f"calibration {measured['unit']} n", ylabel="centroid distance")
    axes.set_xticks(n, [f"{count:,}" for count in n], minor=False)
    axes.set_xticks([], minor=True)
    if scale == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    return figure


def _recall(measured: dict[str, Any]) -> Figure:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.2, 2.2), layout="constrained")
    for row, direction in enumerate(("i2t", "t2i")):
        for place, (version, (label, colour, marker)) in enumerate(VERSIONS.items()):
            value, low, high = measured["recall"][direction][version][:3]
            at = -row - 0.24 * (place - 1)
            axes.plot([low, high], [at, at], color=colour, linewidth=1.2)
            face = "white" if version == "leak" else colour
            axes.plot(
                value,
                at,
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=6,
                label=None if row else label,
                linestyle="none",
            )
    axes.set_yticks([0, -1], ["image → text", "text → image"])
    axes.set(xlabel="R@1 in %, with 95 % interval", ylim=(-1.5, 0.5))
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=7.5, handletextpad=0.1, columnspacing=1.0)
    return figure
