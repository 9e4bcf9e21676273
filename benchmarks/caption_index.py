"""The index of a ShareGPT4V JSON of 1.2 M records: peak memory and seconds to make it and to open it again.

    python -m benchmarks.caption_index               # writes a synthetic file of about 1.4 GB, removed afterwards
    python -m benchmarks.caption_index --records 100000

The rival is `json.load` of the same file. Each is measured in a fresh process.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.row import Row
from i0t.cli import Parser, positive, program

WORK = {
    "make the index": "from i0t.data.caption_index import open_index; index = open_index(path)",
    "open it again": "from i0t.data.caption_index import open_index; index = open_index(path)",
    "json.load": "import json; records = json.load(open(path, encoding='utf-8'))",
}
PROBE = """
import sys, time, resource
from pathlib import Path
path = Path(sys.argv[1]); started = time.perf_counter()
{work}
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def write_json(path: Path, records: int) -> None:
    """Write a file in ShareGPT4V's form: three folders, captions of about 150 words."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    folders = ("coco/train2017", "sam/images", "llava/llava_pretrain/images")
    with open(path, "w", encoding="utf-8") as stream:
        for row in range(records):
            text = " ".join(rng.choices(words, k=150))
            talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"{text[:60]}. {text[60:]}"}]
            record = {"id": str(row), "image": f"{folders[row % 3]}/{row:012d}.jpg", "conversations": talk}
            stream.write(("[" if row == 0 else ",\n") + json.dumps(record))
        stream.write("]")


def measure(records: int) -> tuple[list[list[Any]], float]:
    """Measure [name, seconds, peak GiB] of each kind of work, and the file's size in GB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "captions.json"
        write_json(path, records)
        found = []
        for name, work in WORK.items():
            command = [sys.executable, "-c", PROBE.format(work=work), str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append([name, *map(float, done.stdout.split())])
        return found, path.stat().st_size / 1e9


def rows(quick: bool) -> list[Row]:
    """For `python -m benchmarks`: seconds and peak memory as ratios to `json.load` of the same file."""
    records = 100_000 if quick else 1_200_000
    (make, again, rival), size = measure(records)
    note = f"{records} records, {size:.2f} GB"
    return [
        Row("index of long captions: seconds", "json.load", make[1] / rival[1], "<= 60 s", f"{note}; {make[1]:.0f} s"),
        Row("the same: peak memory", "json.load", make[2] / rival[2], "<= 1.5 GB", f"{note}; {make[2]:.2f} GiB"),
        Row("opened again: seconds", "json.load", again[1] / rival[1], "<= 5 s", f"{note}; {again[1]:.1f} s"),
    ]


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = Parser(prog="python -m benchmarks.caption_index", description=__doc__)
    parser.add_argument("--records", type=positive, default=1_200_000, help="default 1200000")
    found, size = measure(parser.parse_args(argv).records)
    print(f"{size:.2f} GB")
    print(tabulate(found, headers=["", "seconds", "peak GiB"], floatfmt=".2f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
