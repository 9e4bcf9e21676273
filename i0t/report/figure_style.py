"""What all figures in matplotlib share: colours, style, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0t.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito: distinct for all common kinds of colour blindness, and in grey.
IMAGE_COLOUR, TEXT_COLOUR, MATCHED_COLOUR = "#0072B2", "#D55E00", "#009E73"
UNMATCHED_COLOUR, AFTER_COLOUR = "#6b7280", "#a03a78"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: conferences refuse Type 3 fonts
}


def save(draw: Callable[[], Figure], paths: list[Path], **options: Any) -> None:
    """Draw in the common style and write files atomically."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        figure = draw()
        for path in paths:
            with atomic_path(path) as temporary:
                figure.savefig(temporary, **options)
        pyplot.close(figure)


def two_panels(height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure as wide as a page with two panels."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(7.0, height), layout="constrained", **options)
    return figure, list(axes)
