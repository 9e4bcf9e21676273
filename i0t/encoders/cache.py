"""A cache of features under `tensors/cache`, found by content.

    i0t cache            # list the entries
    i0t cache --clear

A key is the SHA-256 of everything that the numbers depend on: architecture and weights
(`Encoder.fingerprint`), precision, kind of device, versions. For images: the preprocessing (its result on
a fixed image), whether EXIF turns them, and path, size and times of change of every image file (the bytes are not
read). Images that a run could not read are tried again. For texts:
the texts and their token ids, which depend on prefix, tokenizer and context length. Images and texts have
separate entries, so that one and five captions per image share the images. The batch size is not part of
the key: it only changes the last bits.

Files are written atomically, and two processes that write the same file write the same content.
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
from i0t.digests import file_state, to_bytes
from i0t.errors import I0TError
from i0t.files import atomic_path
from i0t.paths import TENSORS, say
from i0t.reading import json_entry, read_safetensors
from i0t.reading.arrays import with_checksum

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from i0t.data.items import ImageSource, Preprocess
    from i0t.encoders import EncodeOptions

FORMAT = "i0t-encoded-1"  # increase it when a change of the code changes the numbers
IMAGES = "images, deep greys scaled, hashed"  # part of their key: entries of older versions are not reused
VARIABLE = "I0T_CACHE"
_said: set[Path] = set()  # files and folders whose trouble this process has named


def cache_folder() -> Path:
    """`tensors/cache`, or the folder named by the environment variable I0T_CACHE."""
    return Path(os.environ.get(VARIABLE) or TENSORS / "cache")


class EncodingCache:
    """Features by key, one safetensors file each, in `cache_folder()` by default."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else Path(folder)

    def load(self, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Read features and their metadata; None if there are none, or (with a message) the file is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            tensors, header = read_safetensors(path, FORMAT, "cached features", ("features",), ("about", "key"))
            about = json_entry(path, header, "about")
        except I0TError as error:
            _say_once(path, f"encoding again ({error})")
            return None
        if header["key"] != key or not isinstance(about, dict):
            return None
        return tensors["features"], about

    def save(self, key: str, features: np.ndarray, about: dict[str, Any]) -> None:
        """Save features; if they cannot be written, say so once, and go on."""
        from safetensors.numpy import save_file

        try:
            with atomic_path(self._path(key), sync=False) as temporary:
                tensors = {"features": np.ascontiguousarray(features)}
                header = {"format": FORMAT, "key": key, "about": json.dumps(about)}
                save_file(tensors, temporary, metadata=with_checksum(tensors, header))
        except (I0TError, OSError) as error:  # read-only or full: the run can go on
            _say_once(self.folder, f"not kept ({error})")

    def files(self) -> list[Path]:
        """All entries, oldest first."""
        entries = [(path.stat().st_mtime, path) for path in self.folder.glob("*.safetensors")]
        return [path for _, path in sorted(entries)]

    def clear(self) -> int:
        """Remove all entries; return the number of bytes freed."""
        freed = 0
        for path in self.files():
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def _path(self, key: str) -> Path:
        return self.folder / f"{key[:40]}.safetensors"


def _say_once(place: Path, message: str) -> None:
    """Say the first trouble with a file or folder."""
    if place not in _said:
        _said.add(place)
        say(f"Cache: {message}")


def cached(
    options: EncodeOptions,
    key: Callable[[], str],
    encode: Callable[[], tuple[torch.Tensor, dict[str, Any]]],
    what: str,
    is_current: Callable[[dict[str, Any]], bool] = lambda about: True,
) -> tuple[np.ndarray, dict[str, Any], bool]:
    """Read features from the cache, or encode and save them; return features, metadata, whether they were found.

    Features whose metadata `is_current` refuses are encoded again. Only the main process reads and writes, so that
    all processes agree even if each machine has its own cache.
    """
    cache = EncodingCache() if options.cache and (processes.is_main() or not options.share) else None
    name = key() if cache else ""
    found = cache.load(name) if cache else None
    if found is not None and not is_current(found[1]):
        found = None
    if options.share:
        found = processes.from_main(found)
    if found is not None:
        return *found, True
    tensor, about = encode()
    features = tensor.numpy()
    if cache:
        cache.save(name, features, {"what": what, **about})
    return features, about, False


def image_key(
    settings: Sequence[str], preprocess: Preprocess, images: Sequence[ImageSource], upright: bool = False
) -> str:
    """Compute the key of images; `settings` are those of the encoder and its device."""
    import PIL

    probe = hashlib.sha256(preprocess(_probe_image()).contiguous().numpy().tobytes()).hexdigest()
    settings = [*settings, PIL.__version__, probe, f"upright={upright}"]
    return _digest(IMAGES, settings, (_of_image(image, upright) for image in images))


def text_key(settings: Sequence[str], texts: Sequence[str], tokens: torch.Tensor) -> str:
    """Compute the key of texts with token ids (M, L)."""
    ids = hashlib.sha256(tokens.contiguous().numpy().tobytes()).hexdigest()
    return _digest("texts", [*settings, ids, str(tuple(tokens.shape))], texts)


def _of_image(image: ImageSource, upright: bool) -> str:
    """Identify an image: path, size and times of change of a file, or the pixels of an image in memory."""
    if isinstance(image, (str, Path)):
        return file_state(image)
    from i0t.data.items import image_sha256

    try:
        return image_sha256(image, upright)
    except I0TError as error:  # encoding says so, too, or skips it
        return str(error)


@lru_cache(maxsize=1)
def _probe_image() -> Image.Image:
    """Make a noise image of an odd size; the result of preprocessing it identifies the preprocessing."""
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (331, 467, 3), dtype=np.uint8))


def _digest(kind: str, settings: Iterable[str], items: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in (FORMAT, kind, *settings):
        digest.update(to_bytes(part) + b"\1")
    for item in items:  # with its length, so that different lists never give the same bytes
        encoded = to_bytes(item)
        digest.update(str(len(encoded)).encode() + b"\0" + encoded)
    return digest.hexdigest()
