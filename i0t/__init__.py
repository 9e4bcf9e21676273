"""I0T: measure the modality gap of CLIP-like models, remove it, and show the effect.

    from i0t import Standardizer, load_encoder, modality_gap

Names are imported on first use, so that `import i0t` stays quick and needs no torch.
"""

from importlib import import_module
from typing import Any

from i0t.interrupts import quiet_interrupts

__version__ = "0.1.0"

_HOMES = {
    "Embeddings": "i0t.embeddings",
    "Encoder": "i0t.encoders.encoder",
    "I0TError": "i0t.errors",
    "RunningStandardizer": "i0t.standardize",
    "Standardizer": "i0t.standardize",
    "Whitening": "i0t.standardize",
    "ZScore": "i0t.standardize",
    "gap_intervals": "i0t.gap.intervals",
    "load_embeddings": "i0t.embeddings",
    "load_encoder": "i0t.encoders",
    "modality_gap": "i0t.gap",
}
__all__ = [*_HOMES, "__version__"]
quiet_interrupts()


def __getattr__(name: str) -> Any:
    """Import a public name from its home module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'i0t' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
