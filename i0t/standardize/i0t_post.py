"""I0T_post, the paper's post-hoc method (section 4.2)."""

from __future__ import annotations

from i0t.standardize.arithmetic import AffineMap
from i0t.standardize.remover import GapRemover, Modality


class Standardizer(GapRemover):
    """I0T_post: x' = N(x - mean of images), y' = N(y - mean of texts) (paper section 4.2).

    The paper takes the means over the evaluated set itself; that leaks and is reproduced with
    `--fit-on test`. Here fitting and transforming are two calls, so that the means can come from
    other data.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> images, texts = rng.normal(1, 1, (200, 8)), rng.normal(-1, 1, (200, 8))
        >>> standardizer = Standardizer().fit(images[:100], texts[:100])
        >>> moved = standardizer.transform_image(images[100:])
        >>> moved.shape, bool(np.allclose(np.linalg.norm(moved, axis=1), 1))
        ((100, 8), True)
    """

    name, label = "i0t_post", "centred (I0T_post)"

    def map(self, modality: Modality) -> AffineMap:
        """Subtract the mean."""
        return AffineMap(-self.mean(modality))
