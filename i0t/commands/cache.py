"""Program: list or clear the cache of encoded features, `tensors/cache`. `i0t cache`, `scripts/cache.sh`.

The features are found by content: model, precision, device and items.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from i0t.cli import Parser, program
from i0t.encoders.cache import VARIABLE, EncodingCache


def _table(cache: EncodingCache) -> str:
    from safetensors import safe_open
    from tabulate import tabulate

    rows, total = [], 0
    for path in cache.files():
        stat = path.stat()
        total += stat.st_size
        try:
            with safe_open(path, framework="numpy") as file:
                shape = file.get_slice("features").get_shape()
                about = json.loads((file.metadata() or {})["about"])
        except Exception as error:  # a damaged file may raise anything
            shape, about = [], {"what": f"damaged ({type(error).__name__})"}
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stat.st_mtime))
        rows.append([when, about.get("what", ""), "x".join(map(str, shape)), stat.st_size / 2**20, path.stem[:12]])
    headers = ["kept", "what", "shape", "MiB", "file"]
    listing = tabulate(rows, headers=headers, floatfmt=".1f", maxcolwidths=[None, 40, None, None, None])
    return f"{listing}\n{len(rows)} entries, {total / 2**20:.1f} MiB in {cache.folder}. --clear removes them."


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="i0t cache", description=__doc__)
    parser.add_argument("--folder", help=f"default: ${VARIABLE}, else tensors/cache")
    parser.add_argument("--clear", action="store_true", help="remove all entries")
    arguments = parser.parse_args(argv)
    cache = EncodingCache(arguments.folder)
    if arguments.clear:
        print(f"{cache.clear() / 2**20:.1f} MiB freed in {cache.folder}.")
    else:
        print(_table(cache))
    return 0


if __name__ == "__main__":
    sys.exit(main())
