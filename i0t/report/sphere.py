"""Both modalities on the 3-D unit sphere, as in the paper's Figs. 1 and 4 (App. D).

Shapes: n items of both modalities together, D dimensions.
"""

from __future__ import annotations

import warnings

import numpy as np

from i0t.errors import I0TError
from i0t.report import PROJECTIONS

EPOCHS = 200  # of UMAP's layout
FEWEST_FOR_UMAP = 8  # with fewer items, PCA is used


def project(features: np.ndarray, projection: str = "umap", *, seed: int = 0, neighbors: int = 15) -> np.ndarray:
    """Project unit features to the 3-D unit sphere.

    Args:
        features: (n, D), all items of one sphere.
        projection: "umap" (as in the paper: output metric haversine, started from PCA) or "pca" (direction from
            the common mean along the first three components: quick and linear).
        seed: of UMAP.
        neighbors: per point in UMAP's graph, at most n - 1.

    Returns:
        (n, 3) points of length 1.

    Raises:
        I0TError: another projection.
    """
    if projection not in PROJECTIONS:
        raise I0TError(f"projection {projection!r}: choose {' or '.join(PROJECTIONS)}.")
    if projection == "pca" or len(features) < FEWEST_FOR_UMAP:
        return _unit_or_pole(principal_components(features))
    from sklearn.metrics.pairwise import cosine_distances

    # UMAP would compute the same matrix pair by pair in Python: 8 s for 2 000 items.
    exact = len(features) < 4096
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # a seed turns off parallelism, as intended
        warnings.filterwarnings("ignore", message="using precomputed metric")  # no inverse transform is needed
        from umap import UMAP

        layout = UMAP(
            n_neighbors=min(neighbors, len(features) - 1),
            n_epochs=EPOCHS,
            metric="precomputed" if exact else "cosine",
            output_metric="haversine",
            init=_pca_angles(features),
            random_state=seed,
        )
        polar, azimuth = layout.fit_transform(cosine_distances(features) if exact else features).T
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)


def principal_components(features: np.ndarray) -> np.ndarray:
    """(n, 3) first three principal components; zeros if there are fewer."""
    from sklearn.decomposition import PCA

    found = PCA(min(3, *features.shape), random_state=0).fit_transform(features)
    return np.pad(found, [(0, 0), (0, 3 - found.shape[1])])


def facing(points: np.ndarray, is_image: np.ndarray) -> np.ndarray:
    """Rotate (n, 3) points so that images are on the left and texts on the right of a viewer who looks along -z.

    Then neither modality hides the other.
    """
    images, texts = points[is_image].mean(axis=0), points[~is_image].mean(axis=0)
    right = _unit_or_pole((texts - images)[None])[0]
    # The rest of the common mean faces the viewer: most points are in front.
    common = (images + texts) / 2
    toward = common - (common @ right) * right
    if np.linalg.norm(toward) < 1e-6:
        toward = np.eye(3)[np.abs(right).argmin()]
        toward = toward - (toward @ right) * right
    toward = toward / np.linalg.norm(toward)
    return points @ np.stack([right, np.cross(toward, right), toward], axis=1)


def _unit_or_pole(vectors: np.ndarray) -> np.ndarray:
    """Normalise vectors; a zero vector becomes the pole."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-12, vectors / np.maximum(lengths, 1e-12), [0.0, 0.0, 1.0])


def _pca_angles(features: np.ndarray) -> np.ndarray:
    """(n, 2) polar and azimuth angles of the first three principal components, as UMAP's start.

    If the modalities share no neighbours, their graphs are not connected, and the start decides where each is
    placed. UMAP's own start spreads both over the whole sphere, which hides the gap.
    """
    x, y, z = principal_components(features).T
    angles = np.stack([np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)], axis=1)
    angles -= angles.min(axis=0)
    # UMAP scales each column of a start to 0..10. One point at 10 makes this the identity for all others;
    # its neighbours pull it back.
    angles[0] = 10.0
    return angles.astype(np.float32)
