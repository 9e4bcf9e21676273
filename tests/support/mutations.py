"""Damage to valid files, drawn from a seeded generator: bytes, JSON values, tensors and headers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

DEEP: list[Any] = []
for _ in range(99):
    DEEP = [DEEP]
ODD = [None, True, -1, 0, 10**30, 2**63, 1e308, -1e308, float("nan"), float("inf"), 0.5, "", " ", "x" * 300]
ODD += ["\ud800", "a\0b", "../x", "\n", "1", "NaN", "null", "-", [], {}, [[]], [None], {"a": 1}, {"": None}, DEEP]
ODD += [[1, "1"]]
SNIPPETS = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"\\ud800", b"\x80", b"PK", b"NaN", b"1e999"]
SNIPPETS += [b"[" * 5000, b"{" * 200, b"9" * 5000, b"\n", b"\r", b"\t", b",", b'"', b": ", b"#", b"- ", b"{}"]
SNIPPETS += [b"~nobody", b"&a *a", b"!!int x"]
DTYPES = ["float16", "float64", "int32", "int64", "uint8", "uint64", "bool"]


def bytes_damaged(content: bytes, rng: Random) -> bytes:
    """One to three changes: flipped bits, cuts, zeroed parts, inserted snippets, doubled parts, other encodings."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice([1, 2, 8, 64]))
        kind = rng.randrange(8)
        if kind == 0 and content:
            place = min(place, len(content) - 1)
            content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        elif kind == 1:
            content = content[:place]
        elif kind == 2:
            content = content[:place] + bytes(end - place) + content[end:]
        elif kind == 3:
            content = content[:place] + rng.choice(SNIPPETS) + content[place:]
        elif kind == 4:
            content = content[:place] + content[end:]
        elif kind == 5:
            content = content[:place] + content[place:end] * 2 + content[end:]
        elif kind == 6:
            content = content[:place] + rng.randbytes(end - place) + content[end:]
        else:
            text = content.decode("latin-1")
            content = text.encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8", "utf-8-sig"]))
    return content


def json_damaged(value: Any, rng: Random) -> Any:
    """The same JSON with one value replaced, dropped, wrapped or doubled."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            collect(node[key])

    collect(value)
    if not places or rng.random() < 0.05:
        return rng.choice(ODD)
    node, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = [node[key]]
    elif kind == 2:
        node[key] = json.dumps(node[key])
    elif kind == 3 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = rng.choice(ODD)
    return value


def json_file_damaged(content: bytes, rng: Random) -> bytes:
    """A JSON file with damaged bytes, or with a damaged value."""
    if rng.random() < 0.5:
        return bytes_damaged(content, rng)
    return json.dumps(json_damaged(json.loads(content), rng)).encode()


def tensors_damaged(path: Path, rng: Random) -> None:
    """Change a safetensors file in place: bytes, a header entry, or type, shape or values of a tensor."""
    if rng.random() < 0.3:
        path.write_bytes(bytes_damaged(path.read_bytes(), rng))
        return
    with safe_open(path, framework="numpy") as file:
        header = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    if rng.random() < 0.9:
        header.pop("checksum", None)  # as a program that does not know it
    if rng.random() < 0.5 and header:
        key = rng.choice(sorted(header))
        try:
            header[key] = json.dumps(json_damaged(json.loads(header[key]), rng))
        except ValueError:
            header[key] = str(rng.choice(ODD[:20])).encode("utf-8", "replace").decode()
        if rng.random() < 0.1:
            del header[key]
    else:
        key = rng.choice(sorted(tensors))
        tensors[key] = array_damaged(tensors[key], rng)
        if rng.random() < 0.1:
            tensors["more" if rng.random() < 0.5 else key] = np.zeros((0, 3), np.float32)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, metadata=header)


def array_damaged(array: np.ndarray, rng: Random) -> np.ndarray:
    """Another dtype, shape or values."""
    array = array.copy()
    changes: list[Callable[[], np.ndarray]] = [
        lambda: array.astype(rng.choice(DTYPES)),
        lambda: array[..., None],
        lambda: array.reshape(-1),
        lambda: array[:-1] if array.ndim else array,
        lambda: array[:0] if array.ndim else array,
        lambda: np.full_like(array, rng.choice([np.nan, np.inf, -1, 1e30, 0]) if array.dtype.kind == "f" else -1 % 255),
        lambda: np.asfortranarray(array),
        lambda: np.concatenate([array, array]) if array.ndim else array,
        lambda: array.astype(np.float64) * 1e300,
    ]
    with np.errstate(all="ignore"):
        return np.asarray(rng.choice(changes)())
