"""What was encoded once is read again: a cache of features under `tensors/cache`, found by content.

    i0t cache            # what it holds
    i0t cache --clear

A key is the SHA-256 of everything that the numbers depend on: architecture and weights
(`Encoder.fingerprint`), precision, kind of device, versions; for pictures what the preprocessing makes
of a fixed picture, and of every picture its path, size and time of change (to the nanosecond: its bytes
are not read); for texts the list itself and its token ids, in which prefix, tokenizer and context length
show. Images and texts are apart, so that one caption an image and five share the images. The batch
size is not part of it: it moves the last bits only.

Files are written whole or not at all, and two processes that write one write the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0t import processes
from i0t.errors import I0TError
from i0t.files import atomic_path, json_entry, read_safetensors
from i0t.paths import TENSORS, say

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from i0t.data.items import ImageSource, Preprocess
    from i0t.encoders import EncodeOptions

FORMAT = "i0t-encoded-1"  # raise it when the way of encoding changes the numbers
VARIABLE = "I0T_CACHE"


def cache_folder() -> Path:
    """`tensors/cache`, or the folder named by the environment variable I0T_CACHE."""
    return Path(os.environ.get(VARIABLE) or TENSORS / "cache")


class EncodingCache:
    """Features by key, one safetensors file each.

    Args:
        folder: made when something is kept; `cache_folder()` by default.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else Path(folder)

    def load(self, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Features and what was kept with them; None where there are none, or the file is damaged (which is said)."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            tensors, header = read_safetensors(path, FORMAT, "cached features", ("features",), ("about", "key"))
            about = json_entry(path, header, "about")
        except I0TError as error:
            say(f"Cache: encoding again ({error})")
            return None
        if header["key"] != key:
            return None
        return tensors["features"], about

    def save(self, key: str, features: np.ndarray, about: dict[str, Any]) -> None:
        """Keep features; a folder that cannot be written is said and otherwise no loss."""
        from safetensors.numpy import save_file

        try:
            with atomic_path(self._path(key)) as temporary:
                header = {"format": FORMAT, "key": key, "about": json.dumps(about)}
                save_file({"features": np.ascontiguousarray(features)}, temporary, metadata=header)
        except (I0TError, OSError) as error:  # read-only, or full: the features are there all the same
            say(f"Cache: not kept ({error})")

    def files(self) -> list[Path]:
        """All entries, oldest first."""
        entries = [(path.stat().st_mtime, path) for path in self.folder.glob("*.safetensors")]
        return [path for _, path in sorted(entries)]

    def clear(self) -> int:
        """Remove all entries; returns how many bytes that freed."""
        freed = 0
        for path in self.files():
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def _path(self, key: str) -> Path:
        return self.folder / f"{key[:40]}.safetensors"


def cached(
    options: EncodeOptions,
    key: Callable[[], str],
    encode: Callable[[], tuple[torch.Tensor, dict[str, Any]]],
    what: str,
) -> tuple[np.ndarray, dict[str, Any], bool]:
    """Features from the cache, or from `encode` and then kept; what is remembered of them; whether they were found.

    Of several processes the main one alone reads and writes, so that all agree even where their machines have
    caches of their own.
    """
    cache = EncodingCache() if options.cache and (processes.is_main() or not options.share) else None
    name = key() if cache else ""
    found = cache.load(name) if cache else None
    if options.share:
        found = processes.from_main(found)
    if found is not None:
        return *found, True
    tensor, about = encode()
    features = tensor.numpy()
    if cache:
        cache.save(name, features, {"what": what, **about})
    return features, about, False


def image_key(settings: Sequence[str], preprocess: Preprocess, images: Sequence[ImageSource]) -> str:
    """The key of a list of pictures; `settings` are those of the encoder and of its device."""
    import PIL

    probe = preprocess(_probe_picture()).contiguous().numpy().tobytes()
    return _digest("images", [*settings, PIL.__version__, hashlib.sha256(probe).hexdigest()], map(_of_picture, images))


def text_key(settings: Sequence[str], texts: Sequence[str], tokens: torch.Tensor) -> str:
    """The key of a list of texts and their token ids (M, L)."""
    ids = hashlib.sha256(tokens.contiguous().numpy().tobytes()).hexdigest()
    return _digest("texts", [*settings, ids, str(tuple(tokens.shape))], texts)


def _of_picture(image: ImageSource) -> str:
    """Path, size and time of change of a file; the pixels of a picture in memory."""
    if isinstance(image, (str, Path)):
        path = os.path.abspath(image)
        try:
            stat = os.stat(path)
        except OSError:
            return f"{path}\0missing"
        return f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    from i0t.data.items import open_image

    rgb = open_image(image)
    return f"{rgb.size}\0{hashlib.sha256(rgb.tobytes()).hexdigest()}"


@lru_cache(maxsize=1)
def _probe_picture() -> Image.Image:
    """Noise of an odd size: what a preprocessing makes of it tells the preprocessing."""
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (331, 467, 3), dtype=np.uint8))


def _digest(kind: str, settings: Iterable[str], items: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in (FORMAT, kind, *settings):
        digest.update(part.encode() + b"\1")
    for item in items:  # the length first: no two lists run together alike
        encoded = item.encode("utf-8", "surrogateescape")
        digest.update(str(len(encoded)).encode() + b"\0" + encoded)
    return digest.hexdigest()
