"""The samples of WebDataset shards, read strictly: a shard that ends early is an error, not a short shard."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import webdataset
from webdataset.gopen import gopen
from webdataset.tariterators import group_by_keys

from i0t.errors import I0TError
from i0t.reading import has_words

PICTURES = ("jpg", "jpeg", "png", "webp")
METADATA = re.compile(r"__[^/]*__($|/)")  # names that webdataset keeps for itself
BLOCK = 1 << 16
# Without a scheme, or with file:, a shard is a file of this machine, whose size and time of change are known.
SCHEME = re.compile(r"^(?!file:)[A-Za-z][A-Za-z0-9+.-]+:")


def shard_urls(pattern: str) -> list[str]:
    """The shards of a pattern such as "/data/{00000..00117}.tar"."""
    return list(webdataset.SimpleShardList(pattern).urls)


def shard_state(url: str) -> str:
    """Size and time of change of a shard; "" if it is in object storage, a command's output, or missing."""
    if SCHEME.match(url):
        return ""
    try:
        found = os.stat(re.sub(r"^file://?", "", url))
    except OSError:  # reading it says so
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def samples(url: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of one shard: their files by suffix, `__key__` and `__url__`.

    Raises:
        I0TError: it is missing, damaged or cut; names the place, in bytes from the start of the archive.
    """
    place = [0]
    try:
        yield from group_by_keys(_files(url, place))
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        at = f" at byte {place[0]}" if place[0] else ""
        raise I0TError(
            f"{url}: the shard cannot be read ({_reason(error)}{at}). Make or copy it again, or correct shards=."
        ) from None


def image_and_caption(sample: dict[str, Any]) -> tuple[str, str]:
    """Return the suffix of a sample's image, and its caption.

    Raises:
        I0TError: it has no image, two, or no caption.
    """
    suffixes = [suffix for suffix in PICTURES if suffix in sample]
    if not suffixes or "txt" not in sample:
        found = ", ".join(key for key in sample if not key.startswith("__"))
        raise I0TError(
            f"{place_of(sample)}: needs an image ({', '.join(PICTURES)}) and a txt, has {found:.60} (suffixes begin at "
            "the first dot of a name)."
        )
    if len(suffixes) > 1:
        raise I0TError(f"{place_of(sample)}: has two images, {' and '.join(suffixes)}. Keep one.")
    try:
        caption = sample["txt"].decode("utf-8-sig").replace("\n", " ")
    except UnicodeDecodeError as error:
        raise I0TError(
            f"{place_of(sample)}: its txt is not UTF-8 ({error.reason} at byte {error.start}). Write it as UTF-8."
        ) from None
    if "\0" in caption:  # as of pages that were never written
        raise I0TError(f"{place_of(sample)}: its txt is damaged: it has zero bytes. Make or copy the shard again.")
    if not has_words(caption):
        raise I0TError(f"{place_of(sample)}: its txt is empty. Write a caption, or leave the sample out.")
    return suffixes[0], caption


def place_of(sample: dict[str, Any]) -> str:
    """The shard and key of a sample."""
    return f"{sample['__url__']}: sample {sample['__key__']}"


class _StrictHeader(tarfile.TarInfo):
    """A header of an archive; tarfile itself takes a damaged one, or the end of the file, for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _StrictHeader:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if str(error) == "end of file header":  # a block of zeros, the only proper end
                raise
            early = "ends without an end-of-archive block" if tar.offset else "empty file"
            raise tarfile.ReadError(early if str(error) == "empty header" else str(error)) from None


def _files(url: str, place: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the files of a shard, and keep in `place` how far it is read."""
    stream = gopen(url)
    try:
        yield from _members(stream, url, place)
    except BaseException:
        with suppress(OSError):  # the command of a pipe may fail as no one reads on
            stream.close()
        raise
    stream.close()  # raises if the command of a pipe failed


def _members(stream: IO[bytes], url: str, place: list[int]) -> Iterator[dict[str, Any]]:
    tar = tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader)  # noqa: SIM115 (its stream is closed above)
    assert tar.fileobj is not None
    for member in tar:
        place[0] = tar.fileobj.tell()
        if member.isreg() and not METADATA.match(member.name):
            content = tar.extractfile(member)
            assert content is not None  # as it is a regular file
            yield {"fname": member.name, "data": content.read(), "__url__": url}
        tar.members = []  # type: ignore[attr-defined]  # else the list grows with the shard
        place[0] = tar.offset
    place[0] = tar.offset
    while rest := tar.fileobj.read(BLOCK):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("more data behind an end-of-archive block")


def _reason(error: Exception) -> str:
    """One line with the fault of a shard, without the objects that webdataset adds to the message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[0] if error.args else type(error).__name__)
    return text.partition("\n")[0].partition(" @ <")[0].partition(" in tar file ")[0]
