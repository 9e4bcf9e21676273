"""Text tables of one row per method, for `i0t search-eval` and `i0t advise`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tabulate import tabulate

from i0t.search.methods import label_of
from i0t.search.results import MethodResult, intervals

Columns = Mapping[str, Mapping[str, Any]]  # cells by method, by header


def method_table(columns: Columns) -> str:
    """Format columns of cells by method, "-" where a method has none."""
    names = list(dict.fromkeys(name for held in columns.values() for name in held))
    rows = [[label_of(name), *(str(held.get(name, "-")) for held in columns.values())] for name in names]
    return tabulate(rows, ["", *columns], disable_numparse=True)


def cells(results: Mapping[str, MethodResult], metric: str, percent: bool = False) -> dict[str, str]:
    """Mean of a metric with half of its 95 % interval, for the methods that have one."""
    held = {name: result for name, result in results.items() if not np.isnan(result.mean().get(metric, np.nan))}
    ranges = intervals(list(held.values()), metric) if held else []
    return {
        name: _with_half(result.mean()[metric], (high - low) / 2, percent)
        for (name, result), (low, high) in zip(held.items(), ranges)
    }


def _with_half(value: float, half: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.0f} ±{100 * half:.0f} %" if np.isfinite(half) else f"{100 * value:.0f} %"
    return f"{value:.3f} ±{f'{half:.3f}'.lstrip('0')}" if np.isfinite(half) else f"{value:.3f}"
