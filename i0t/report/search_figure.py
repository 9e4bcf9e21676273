"""Figure of mixed search: how good the list of each method is, and which kinds it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from i0t.report.figure_style import AFTER_COLOUR, IMAGE_COLOUR, TEXT_COLOUR, UNMATCHED_COLOUR, two_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def search_figure(measured: dict[str, Any]) -> Figure:
    """Draw "search" of the measurements, one row per method; it must not be skipped."""
    found = measured["search"]
    methods = found["methods"]
    figure, (quality, shares) = two_panels(0.7 + 0.23 * len(methods), sharey=True)
    _draw_quality(quality, found)
    _draw_shares(shares, found)
    quality.set_yticks(range(len(methods)), [one["label"] for one in methods])
    quality.set_ylim(len(methods) - 0.4, -0.6)
    for axes in (quality, shares):
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
    return figure


def _draw_quality(axes: Axes, found: dict[str, Any]) -> None:
    """Draw bars of NDCG with intervals, and marks for relevant items of each kind, where there are both."""
    methods = found["methods"]
    rows = np.arange(len(methods))
    value, low, high = np.array([one["ndcg"] for one in methods]).T
    colours = [AFTER_COLOUR if one["fitted"] else UNMATCHED_COLOUR for one in methods]
    axes.barh(rows, value, height=0.55, color=colours, alpha=0.35)
    axes.hlines(rows, low, high, color=colours, linewidth=1.4)
    axes.axvline(
        value[found["rival"]],
        color=UNMATCHED_COLOUR,
        linewidth=0.9,
        linestyle=(0, (4, 3)),
        zorder=0,
        label="best rival",
    )
    axes.set(xlabel=f"NDCG@{found['k']}, 95 % interval", xlim=(0, 1))
    if not np.isnan(methods[0]["own"]):
        for key, marker, label in (("own", "s", "own kind"), ("other", "D", "other kind")):
            values = [one[key] for one in methods]
            axes.plot(
                values, rows, marker, color="black", markerfacecolor="white", markersize=3.5, label=label, clip_on=False
            )
    _legend_above(axes)


def _draw_shares(axes: Axes, found: dict[str, Any]) -> None:
    """Draw the share of the query's own kind among the results of text and of image queries."""
    rows = np.arange(len(found["methods"]))
    for kind, colour, marker, dashes in (("text", TEXT_COLOUR, "^", (4, 3)), ("image", IMAGE_COLOUR, "o", (1, 2))):
        share = 100 * np.array([one["own_share"][kind] for one in found["methods"]])
        axes.plot(share, rows, marker, color=colour, markersize=4.5, label=f"{kind} queries")
        axes.axvline(100 * found["relevant"][kind], color=colour, linewidth=0.9, linestyle=(0, dashes), zorder=0)
    axes.plot([], [], color=UNMATCHED_COLOUR, linewidth=0.9, linestyle=(0, (2, 2)), label="relevant")
    axes.set(xlabel=f"own kind in the top {found['k']}, %", xlim=(-3, 103))
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.98),
        ncols=3,
        fontsize=7,
        handlelength=1.4,
        handletextpad=0.4,
        columnspacing=0.8,
    )
