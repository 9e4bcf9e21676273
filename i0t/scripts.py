"""How a program is called: by its script in a checkout, by `python -m` where only the package is installed."""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SHIPPED = (Path(__file__).parent / "configs").resolve()
IS_CHECKOUT = SHIPPED == REPO / "configs"
MODULES = {
    "train": "i0t.training",
    "post_train": "i0t.training --recipe bn_async",
    "evaluate_retrieval": "evaluation.retrieval",
    "evaluate_classification": "evaluation.classification",
    "evaluate_correlation": "evaluation.correlation",
    "table": "evaluation.table",
    "demo": "evaluation.demo",
    "check_data": "i0t.data.check",
    "prepare_data": "i0t.data.prepare",
    "cache": "i0t.commands.cache",
}
SCRIPT = re.compile(rf"(?:bash )?scripts/({'|'.join(MODULES)})\.sh")


def as_called_here(text: str) -> str:
    """Replace the scripts that a text names, if there are none here."""
    return text if IS_CHECKOUT else SCRIPT.sub(lambda found: f"python -m {MODULES[found[1]]}", text)
