"""Gap removers by name: ours are listed, any other is named by its dotted path (`package.module:Class`)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from i0t.errors import I0TError
from i0t.standardize.means_file import remover_named_in
from i0t.standardize.remover import GapRemover

REMOVERS = {
    "i0t_post": "i0t.standardize:Standardizer",
    "z_score": "i0t.standardize:ZScore",
    "whitening": "i0t.standardize:Whitening",
}
# Never fitted to shards or by a program: it learns from a stream, in Python.
LOADED_ONLY = {"running": "i0t.standardize:RunningStandardizer"}


def remover_class(name: str) -> type[GapRemover]:
    """The class of a name of `REMOVERS` or of a dotted path.

    Raises:
        I0TError: neither, or what is there is no gap remover.

    Example:
        >>> remover_class("i0t_post").__name__, remover_class("i0t.standardize:Standardizer").__name__
        ('Standardizer', 'Standardizer')
    """
    module, _, attribute = REMOVERS.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise I0TError(
            f"{name}: no such gap remover. Known: {', '.join(REMOVERS)}; others by dotted path, package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, GapRemover)):
        raise I0TError(f"{name}: not a gap remover (i0t.standardize.GapRemover).")
    return found


def load_remover(path: str | Path, name: str | None = None) -> GapRemover:
    """The remover saved in a file, of the class that the file names unless `name` is given.

    Raises:
        I0TError: not such a file, or of a class that is not listed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fitted = remover_class("z_score")().fit(np.eye(2), np.eye(2))
        ...     load_remover(fitted.save(f"{folder}/z_score.safetensors"))
        ZScore()
    """
    if name is None:
        name = remover_named_in(path)
        name = LOADED_ONLY.get(name, name)
        if name is not None and name not in (*REMOVERS, *LOADED_ONLY.values()):
            raise I0TError(f"{path}: saved by remover {name!r}, unknown here. Name its class: --remover MODULE:CLASS.")
    return remover_class(name or "i0t_post").load(path)
