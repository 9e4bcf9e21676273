"""Prove the CUDA path on one card: `python -m benchmarks.cuda`.

Random weights of ViT-B/32 and the built-in sample; no network, no files of yours. Every row is a figure
with the most it may be; the exit status is 1 if one is more. Where there is no card it says so and ends.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import cuda_agreement, cuda_encoding, cuda_training
from benchmarks.cuda_project import RECIPE, Check, Setting
from i0t.cli import program
from i0t.errors import first_line

Job = Callable[[], list[Check]]
COUNTED = "a multiply-add as 2, backward as twice forward, attention in full; norms, loss and optimizer not counted"


def jobs(setting: Setting) -> dict[str, Job]:
    """All checks by name, in their order."""
    every = ("fp32", *setting.precisions)
    some = ("fp32", "bf16") if setting.quick else every
    found: dict[str, Job] = {}
    for precision in some:
        found[f"embeddings, {precision}"] = partial(cuda_agreement.vectors, setting, precision)
    for precision in some:
        found[f"one step, {precision}"] = partial(cuda_agreement.one_step, setting, precision)
    for batch in (setting.size(64, 64, 4),) if setting.quick else (setting.size(64, 64, 4), setting.size(128, 64, 8)):
        for tokens in (248,) if setting.quick else (248, 77):
            for precision in setting.precisions:
                name = f"training step, batch {batch}, {tokens} tokens, {precision}"
                found[name] = partial(cuda_training.throughput, setting, batch, tokens, precision)
    found["encoding pictures"] = partial(cuda_encoding.images, setting)
    found["encoding texts"] = partial(cuda_encoding.texts, setting)
    for precision in ("bf16",) if setting.quick else every:
        found[f"chunks, {precision}"] = partial(cuda_agreement.chunks, setting, precision)
    for precision in ("bf16",) if setting.quick else ("fp32", "bf16"):
        found[f"chunks with dropout, {precision}"] = partial(cuda_agreement.chunks_with_dropout, setting, precision)
    for precision in setting.precisions:
        found[f"resume, {precision}"] = partial(cuda_agreement.resumed, setting, precision, True)
    found["resume, bf16, kernels as they are"] = partial(cuda_agreement.resumed, setting, "bf16", False)
    return found


def run(found: dict[str, Job], limit: float, show_traceback: bool, done: Callable[[list[Check]], None]) -> list[Check]:
    """Every job's checks; one that fails, or that the time does not reach, becomes a check that is not passed.

    Args:
        found: the jobs.
        limit: seconds after which none is begun.
        show_traceback: also print where a failing job failed.
        done: called with all checks so far after each job.
    """
    checks: list[Check] = []
    began = time.perf_counter()
    for name, job in found.items():
        started = time.perf_counter()
        if started - began > limit:
            checks.append(Check(name, math.nan, math.nan, f"not begun: {limit:.0f} s were over"))
            continue
        try:
            checks += _quietly(job)
        except Exception as error:  # whatever it is, the other checks are still worth having
            checks.append(Check(name, math.nan, math.nan, f"{type(error).__name__}: {first_line(error)[:300]}"))
            if show_traceback:
                traceback.print_exc()
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
        done(checks)
    return checks


def table(checks: list[Check]) -> str:
    """One row a check."""
    rows = [
        [check.what, f"{check.measured:.3g}", f"<= {check.bound:.3g}", "pass" if check.passed else "FAIL", check.note]
        for check in checks
    ]
    headers = ["check", "measured", "bound", "", "seen"]
    widths = [62, 10, 10, 4, 62]
    return tabulate(rows, headers, tablefmt="simple", maxcolwidths=widths, disable_numparse=True)


def about(setting: Setting) -> dict[str, Any]:
    """The machine, the versions, and what model FLOPs utilisation (MFU) assumes."""
    card = torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else "none"
    return {
        "card": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "model": setting.model,
        "recipe": RECIPE,
        "quick": setting.quick,
        "peak_flops": cuda_training.peak_flops(setting.device),
        "flops_counted": COUNTED,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the program."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.cuda", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller checks, about a minute")
    parser.add_argument("--only", metavar="WORDS", help="only checks whose name has these words, e.g. resume")
    parser.add_argument("--limit", type=float, default=330, metavar="S", help="begin no check after S seconds (330)")
    parser.add_argument("--traceback", action="store_true", help="print where a failing check failed")
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1), help="decoding processes")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # to try the program itself
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # on a CPU
    return parser.parse_args(argv)


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing to measure here.")
        return 0
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic; on Hopper no smaller than usual
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setting = Setting(torch.device(options.device), options.quick, options.tiny, options.workers, Path(folder))
        facts = about(setting)
        peak = f"{facts['peak_flops'] / 1e12:.0f} TFLOP/s" if facts["peak_flops"] else "unknown"
        print(f"{facts['card']}, torch {facts['torch']}, {facts['cores']} cores; {RECIPE} on {setting.model}")
        print(f"MFU: of a peak of {peak} (dense bf16/fp16, data sheet); {COUNTED}.", flush=True)
        found = {name: job for name, job in jobs(setting).items() if (options.only or "") in name}
        began = time.perf_counter()

        def write(checks: list[Check]) -> None:
            if options.output:
                _write(options.output, {**facts, "seconds": time.perf_counter() - began}, checks)

        checks = run(found, options.limit, options.traceback, write)
        write(checks)
    print(table(checks))
    missed = sum(not check.passed for check in checks)
    print(f"{len(checks)} checks, {missed} missed, {time.perf_counter() - began:.0f} s")
    return 1 if missed or not checks else 0


def _write(path: Path, facts: dict[str, Any], checks: list[Check]) -> None:
    """After every job, so that a run which is ended leaves what it has found."""
    rows = [{**asdict(check), "passed": check.passed} for check in checks]
    for row in rows:
        row.update({key: None for key in ("measured", "bound") if not math.isfinite(row[key])})  # JSON has no NaN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "checks": rows}, indent=1) + "\n", encoding="utf-8")


def _quietly(job: Job) -> list[Check]:
    """Without the programs' bars and notes; of what was said only warnings are passed on."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return job()
    finally:
        for line in dict.fromkeys(said.getvalue().splitlines()):
            if "Warning" in line:
                print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
