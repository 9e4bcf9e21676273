"""`.npy` headers that lie, and safetensors that are not ours.

Run: python -m pytest tests/reading/test_arrays.py
"""

from __future__ import annotations

import numpy as np
import pytest

from i0t import I0TError
from i0t.reading import read_npy


def npy(path, header: str):
    """A file with this header, and eight numbers."""
    text = header.encode() + b" " * (118 - len(header) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + np.arange(8.0).tobytes())
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1000000000000, 512), }",
            "8192000000000000 bytes, but 64",
        ),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 4), }", "shape"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }", "Python objects"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 4)", "not a .npy array"),
        ("{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 4), }", "not a .npy array"),
        ("((((((((", "not a .npy array"),
        ("", "not a .npy array"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_headers_are_not_believed(tmp_path, header, message, mapped):
    with pytest.raises(I0TError, match=rf"a\.npy: .*{message}"):
        read_npy(npy(tmp_path / "a.npy", header), "embeddings", mapped)


@pytest.mark.parametrize("mapped", [False, True])
def test_what_numpy_writes_is_read(tmp_path, mapped):
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    for form in (array, np.asfortranarray(array), array.astype(np.float16), array[:0], np.float32(3)):
        np.save(tmp_path / "a.npy", form)
        assert np.array_equal(read_npy(tmp_path / "a.npy", "embeddings", mapped), form)


def test_two_arrays_in_one_file_are_refused(tmp_path):
    with (tmp_path / "a.npy").open("wb") as stream:
        np.save(stream, np.eye(4))
        np.save(stream, np.eye(4))
    with pytest.raises(I0TError, match=r"a\.npy: .*128 bytes, but 384 follow: several arrays"):
        read_npy(tmp_path / "a.npy", "embeddings")


@pytest.mark.parametrize("length", [0, 1, 9, 60, 150])
def test_cut_arrays_are_refused(tmp_path, length):
    np.save(tmp_path / "a.npy", np.eye(4))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:length])
    with pytest.raises(I0TError, match=r"a\.npy: not a \.npy array"):
        read_npy(tmp_path / "a.npy", "embeddings")
