"""One picture of what removing the gap did: both modalities on the sphere, and their cosines.

As the paper's Figs. 1, 4 and 5: UMAP to the 3-D sphere (output metric haversine; App. D), and
histograms of matched and unmatched image-text cosines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i0t.embeddings import Embeddings
from i0t.features import to_numpy
from i0t.files import atomic_path
from i0t.report.sphere import sphere_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["gap_picture", "matched_and_unmatched", "sphere_points"]

# Okabe-Ito: told apart with every common colour blindness, and in grey.
IMAGE_COLOUR, TEXT_COLOUR = "#0072B2", "#D55E00"
MATCHED_COLOUR, UNMATCHED_COLOUR = "#009E73", "#999999"
MOST_POINTS = 400  # of each modality on the sphere: more hide one another


def gap_picture(stages: dict[str, Embeddings], path: str | Path, seed: int = 0) -> Path:
    """Draw one row a stage: the sphere, then the histograms of cosines.

    Args:
        stages: title to embeddings, e.g. {"before": ..., "after": ...}, of the same items.
        path: .png, .pdf or .svg.
        seed: of UMAP, of the points shown and of the unmatched pairs.

    Returns:
        `path`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = len(stages)
    figure = pyplot.figure(figsize=(11, 4.6 * rows), layout="constrained")
    cosines = {title: matched_and_unmatched(embeddings, seed) for title, embeddings in stages.items()}
    everything = np.concatenate([both for pair in cosines.values() for both in pair])
    for row, (title, embeddings) in enumerate(stages.items()):
        sphere = figure.add_subplot(rows, 2, 2 * row + 1, projection="3d")
        _draw_sphere(sphere, embeddings, title, seed)
        histogram = figure.add_subplot(rows, 2, 2 * row + 2)
        _draw_histogram(histogram, *cosines[title], title, (everything.min(), everything.max()))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    return Path(path)


def matched_and_unmatched(embeddings: Embeddings, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all matched pairs, and of ten times as many random unmatched ones.

    Example:
        >>> eye, names = np.eye(3, dtype=np.float32), list("abc")
        >>> matched, unmatched = matched_and_unmatched(Embeddings(eye, eye, np.arange(3), names, names))
        >>> matched.tolist(), set(unmatched.tolist())
        ([1.0, 1.0, 1.0], {0.0})
    """
    images, texts = to_numpy(embeddings.image_features), to_numpy(embeddings.text_features)
    pairs = embeddings.pairs
    matched = np.einsum("pd,pd->p", images[pairs[:, 0]], texts[pairs[:, 1]])
    rng = np.random.default_rng(seed)
    chosen = np.repeat(pairs, 10, axis=0)
    other = rng.integers(len(images), size=len(chosen))
    unmatched = other != chosen[:, 0]
    return matched, np.einsum("pd,pd->p", images[other[unmatched]], texts[chosen[unmatched, 1]])


def _draw_sphere(axes: Axes, embeddings: Embeddings, title: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = embeddings.pairs
    pairs = pairs[np.sort(rng.choice(len(pairs), min(MOST_POINTS, len(pairs)), replace=False))]
    both = np.concatenate([embeddings.image_features[pairs[:, 0]], embeddings.text_features[pairs[:, 1]]])
    points = sphere_points(both, seed)
    u, v = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    grid = np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)
    axes.plot_wireframe(*grid, color="#dddddd", linewidth=0.4)
    # Seen at a right angle to the line between the two modalities, so that neither hides the other.
    between = points[: len(pairs)].mean(axis=0) - points[len(pairs) :].mean(axis=0)
    azimuth = np.arctan2(between[1], between[0]) + np.pi / 2
    front = points @ [np.cos(azimuth), np.sin(azimuth), 0.2] > 0
    is_image = np.arange(len(points)) < len(pairs)
    for modality, colour, label in ((is_image, IMAGE_COLOUR, "images"), (~is_image, TEXT_COLOUR, "texts")):
        axes.scatter(*points[modality & ~front].T, s=8, color=colour, alpha=0.2, depthshade=False, linewidths=0)
        axes.scatter(*points[modality & front].T, s=14, color=colour, label=label, depthshade=False, linewidths=0)
    axes.view_init(elev=12, azim=np.degrees(azimuth))
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.45)
    axes.set_axis_off()
    axes.set_title(f"{title}: UMAP on the sphere (faint: far side)")
    axes.legend(loc="lower left", frameon=False)


def _draw_histogram(
    axes: Axes, matched: np.ndarray, unmatched: np.ndarray, title: str, limits: tuple[float, float]
) -> None:
    bins = np.linspace(*limits, 60)
    for cosines, colour, label in (
        (unmatched, UNMATCHED_COLOUR, "unmatched"),
        (matched, MATCHED_COLOUR, "matched"),
    ):
        axes.hist(cosines, bins=bins, density=True, color=colour, alpha=0.7, label=f"{label} pairs")
        axes.axvline(cosines.mean(), color=colour, linewidth=1.5, linestyle="--")
    axes.set_xlabel("cosine of image and text")
    axes.set_ylabel("density")
    axes.set_title(f"{title}: cosines (dashed: means)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
