"""Refuses data sets whose counts are wrong, unless `--allow-partial`; a partial run says so in record and table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from i0t.data.datasets import DATASETS, load_dataset
from i0t.embeddings import Embeddings
from i0t.paths import Roots
from i0t.records import Record

NOT_CHECKED = {"state": "not checked", "why": "embeddings of another program, measured without the data set"}


def require_complete(datasets: Iterable[str], roots: Roots, options: argparse.Namespace) -> None:
    """Refuse before anything is loaded or encoded, not between two data sets.

    Raises:
        I0TError: as `completeness`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "zeroshot_datasets/birdsnap/test/wren").mkdir(parents=True)
        ...     require_complete(["birdsnap"], Roots(Path(folder), None), argparse.Namespace(allow_partial=False))
        Traceback (most recent call last):
            ...
        i0t.errors.I0TError: ...: no picture in its class folders (1 found).
    """
    for dataset in datasets:
        completeness(dataset, roots, options)


def completeness(
    dataset: str, roots: Roots, options: argparse.Namespace, given: Embeddings | None = None
) -> dict[str, Any]:
    """What a record says of how complete its data set is: state, counts, and why, if there is a reason to tell.

    Args:
        dataset: its name; other names than the paper's data sets come from `--embeddings` alone.
        roots: the data roots; both None where embeddings of another program are measured without the data.
        options: the flags, of which `allow_partial` decides.
        given: embeddings made before; those of ours know how complete their data set was.

    Raises:
        I0TError: the counts are wrong or pictures are missing, and `--allow-partial` is not set; or the data set
            cannot be read at all.

    Example:
        >>> options = argparse.Namespace(allow_partial=False)
        >>> completeness("mine", Roots(None, None), options)["completeness"]["state"]
        'not checked'
    """
    if dataset not in DATASETS or (roots.main is None and roots.sub is None):
        return {"completeness": (given.metadata if given else {}).get("completeness", NOT_CHECKED)}
    return {"completeness": load_dataset(dataset, roots, options.allow_partial).completeness}


def label(record: Record) -> str:
    """The name of a record's data set in a table, with "(partial)" where it is that.

    Example:
        >>> from types import SimpleNamespace
        >>> label(SimpleNamespace(dataset="coco", data={"completeness": {"state": "partial"}}))
        'coco (partial)'
    """
    return f"{record.dataset} (partial)" if _block(record).get("state") == "partial" else record.dataset


def notes(records: Iterable[Record]) -> list[str]:
    """Lines below a table: what the partial data sets lack, and which shortfalls are known.

    Example:
        >>> from types import SimpleNamespace
        >>> found = {"state": "known shortfall", "images": 1855, "why": "588 pictures are gone"}
        >>> notes([SimpleNamespace(dataset="birdsnap", data={"completeness": found})])
        ['birdsnap: known shortfall: 588 pictures are gone']
    """
    blocks = [(record.dataset, _block(record)) for record in records]
    return [
        f"{dataset}: {block['state']}: {block['why']}"
        for dataset, block in blocks
        if "images" in block and "why" in block
    ]


def _block(record: Record) -> dict[str, Any]:
    return record.data.get("completeness", {})
