"""Objects by dotted path, as specs, recipes and the list of removers name those that `i0t` does not import."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def import_dotted(dotted: str) -> Any:
    """Return the object of "package.module:name".

    Raises:
        ImportError: there is none; the message says where Python found the package, if it did: a folder of its name
            that comes first, e.g. in the current folder, hides ours.

    Example:
        >>> import_dotted("math:pi")
        3.141592653589793
    """
    module, _, name = dotted.partition(":")
    try:
        return getattr(import_module(module), name)
    except (AttributeError, ImportError, ValueError) as error:
        package = module.partition(".")[0]
        folders = getattr(sys.modules.get(package), "__path__", ())
        raise ImportError(
            "; ".join([str(error), *(f"Python found {package} in {folder}" for folder in folders)])
        ) from None
