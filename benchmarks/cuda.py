"""Check the CUDA path on one card, within six minutes: `python -m benchmarks.cuda`.

It uses random weights of ViT-B/32 and the built-in sample, no network and none of your files. Every check is a
number with its upper bound. One table at the end has all of them, and so has a JSON file (--json). The exit status
is 1 if a bound is exceeded or a check failed. Without a card it says so in one line, with status 0.
"""

from __future__ import annotations

import argparse
import gc
import io
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import cuda_agreement, cuda_speed
from benchmarks.cuda_setup import RECIPE, Check, Setting
from benchmarks.encoding_setup import photos
from i0t.cli import Parser, program
from i0t.errors import first_line
from i0t.files import write_json
from i0t.paths import TENSORS
from i0t.results.record import plain
from i0t.versions import versions

Job = Callable[[], list[Check]]
LIMIT = 330  # seconds after which no check is started
FORMATS = {"MFU": "{:.0%}", "peak GB": "{:.1f}"}  # of the table's columns; others are rates
COUNTED = "a multiply-add as 2, attention in full; norms, loss and optimizer not counted"


def jobs(setting: Setting) -> dict[str, Job]:
    """All checks by name, in order."""
    mixed = ("bf16", "fp16") if setting.is_cuda else ("bf16",)
    every, agreement = ("fp32", *mixed), cuda_agreement
    found: dict[str, Job] = {f"embeddings, {name}": partial(agreement.vectors, setting, name) for name in every}
    found |= {f"one step, {name}": partial(agreement.one_step, setting, name) for name in every}
    for batch, tokens, name in product((setting.size(64, 4), setting.size(128, 8)), (248, 77), mixed):
        job = partial(cuda_speed.training, setting, batch, tokens, name)
        found[f"training step, batch {batch}, {tokens} tokens, {name}"] = job
    found["encoding images"] = partial(cuda_speed.images, setting)
    found["encoding texts"] = partial(cuda_speed.texts, setting)
    found |= {f"chunks, {name}": partial(agreement.chunks, setting, name) for name in every}
    with_dropout = agreement.chunks_with_dropout
    found |= {f"chunks with dropout, {name}": partial(with_dropout, setting, name) for name in ("fp32", "bf16")}
    found |= {f"resume, {name}": partial(agreement.resumed, setting, name, True) for name in mixed}
    return found | {"resume, bf16, kernels as they are": partial(agreement.resumed, setting, "bf16", False)}


def run(name: str, job: Job, spent: float) -> list[Check]:
    """Run a job; if it fails, or `LIMIT` seconds have passed, return a failed check."""
    if spent > LIMIT:
        return [Check(name, math.nan, math.nan, f"not started: {LIMIT} s have passed")]
    started = time.perf_counter()
    try:
        with redirect_stderr(io.StringIO()):  # no progress bars
            return job()
    except Exception as error:  # the other checks should still run
        traceback.print_exc()
        return [Check(name, math.nan, math.nan, f"{type(error).__name__}: {first_line(error)[:300]}")]
    finally:
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


def table(checks: list[Check]) -> str:
    """Format all checks as one table, with a column for every kind of figure."""
    rows = []
    for check in checks:
        row = {"check": check.what, "measured": f"{check.measured:.3g}", "bound": f"{check.bound:.3g}"}
        row["passed"] = "yes" if check.passed else "NO"
        rows.append({**row, **{name: FORMATS.get(name, "{:.0f}").format(it) for name, it in check.figures.items()}})
    return tabulate(rows, "keys", "pipe", disable_numparse=True)


def results(checks: list[Check], facts: dict[str, Any]) -> dict[str, Any]:
    """Content of the JSON file: what is tested, the versions, and of each check what the table has, and its note."""
    rows = [{**asdict(check), "passed": check.passed} for check in checks]
    missed = sum(not check.passed for check in checks)
    return plain({**facts, "versions": versions(), "missed": missed, "checks": rows})


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="benchmarks.cuda", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="only checks whose name has these words")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="for the results (default tensors/cuda.json; none with --only)"
    )
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # to try the program itself
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # on a CPU
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing to measure here.")
        return 0
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic; on Hopper no smaller than usual
    began = time.perf_counter()
    with photos(64, train=320) as roots:
        workers = 0 if options.tiny else min(16, os.cpu_count() or 1)
        setting = Setting(torch.device(options.device), roots, options.tiny, workers)
        card = torch.cuda.get_device_name(setting.device) if setting.is_cuda else "no card"
        peak = cuda_speed.peak_flops(setting)
        print(f"{card}, torch {torch.__version__}, {os.cpu_count()} cores; {RECIPE} on {setting.model}")
        print(f"MFU: of {peak / 1e12:.0f} TFLOP/s (dense bf16/fp16, data sheet); {COUNTED}.")
        checks: list[Check] = []
        for name, job in jobs(setting).items():
            if options.only in name:
                found = run(name, job, time.perf_counter() - began)
                print(*found, sep="\n", file=sys.stderr, flush=True)  # at once, in case the run is killed
                checks += found
    seconds = time.perf_counter() - began
    facts = {"card": card, "cores": os.cpu_count(), "recipe": RECIPE, "model": setting.model, "peak_flops": peak}
    content = results(checks, {**facts, "seconds": seconds, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    print(f"\n{table(checks)}\n\n{len(checks)} checks, {content['missed']} missed, {seconds:.0f} s")
    path = options.json or (None if options.only else TENSORS / "cuda.json")
    if path:
        write_json(path, content)
        print(path)
    return 1 if content["missed"] or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
