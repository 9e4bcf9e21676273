"""The report: one self-contained HTML page, and its figures as PNG and PDF beside it.

The page is a template of `assets/` with the numbers as JSON; its own script draws the figures. It loads
nothing: no network, no fonts, no libraries.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from tqdm import tqdm

from i0t.embeddings import Embeddings
from i0t.files import atomic_path, ensure_folder
from i0t.report import DEFAULTS, ReportOptions
from i0t.report.definitions import GLOSSARY
from i0t.report.figures import save_figures
from i0t.report.measurements import measure
from i0t.report.prose import captions, columns, headline, method, notes_on, protocol, title

SCRIPTS = ("page.js", "charts.js", "sphere.js")
STEPS = 7


def write_report(
    embeddings: Embeddings,
    folder: str | Path,
    options: ReportOptions = DEFAULTS,
    notes: Sequence[str] = (),
) -> Path:
    """Measure the gap before and after I0T_post and write the report.

    The means come from a random half of the linked items; the other half is tested. Results with means of
    the tested items themselves (the paper's protocol) are shown, too, as a leak.

    Args:
        embeddings: four or more linked groups (mostly pairs). Without pairs, retrieval and the measures of
            pairs are shown as a dash, and mixed search is left out.
        folder: made if missing; gets `report.html` and each figure as .png (300 dpi) and .pdf.
        options: projection of the sphere, and seed.
        notes: lines at the top of the page, such as warnings.

    Returns:
        The path of `report.html`.

    Raises:
        I0TError: too few items, a bad row, or a folder that cannot be written.
    """
    folder = ensure_folder(folder)
    # No bar if standard error is not a terminal. In one step, UMAP is compiled.
    with tqdm(total=STEPS, desc="report", leave=False, disable=None) as bar:

        def say(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        measured = measure(embeddings, options, say)
        say("figures")
        saved = save_figures(measured, folder)
    path = folder / "report.html"
    metadata = {"files": embeddings.files, **embeddings.metadata}
    with atomic_path(path) as temporary:
        temporary.write_text(render(measured, metadata, options.seed, saved, notes), encoding="utf-8")
    return path


def render(
    measured: dict[str, Any],
    metadata: dict[str, Any],
    seed: int = 0,
    figures: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> str:
    """Fill the template with the numbers of `measure`; names in `metadata` may have any characters."""
    content = {
        **measured,
        "glossary": {key: definition._asdict() for key, definition in GLOSSARY.items()},
        "columns": columns(measured),
        "captions": captions(measured),
        "method": method(measured, metadata, seed, version("i0t"), figures),
        "notes": [*notes, *notes_on(measured)],
    }
    slots = {
        "title": escape(title(metadata)),
        "headline": escape(headline(measured)),
        "protocol": escape(protocol(measured)),
        "css": _asset("page.css"),
        "js": "\n".join(_asset(name) for name in SCRIPTS),
        "data": script_json(content),
    }
    # One pass: inserted text is not searched for slots.
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], _asset("page.html"))


def script_json(content: Any) -> str:
    r"""Format JSON that is safe inside a <script> element: without <, > and &; NaN and infinity become null.

    Example:
        >>> script_json({"name": "</script>&", "value": float("nan")})
        '{"name":"\\u003c/script\\u003e\\u0026","value":null}'
    """
    text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _asset(name: str) -> str:
    return (files("i0t.report") / "assets" / name).read_text(encoding="utf-8")
