"""A decoding process that dies names its image; one item is not taken for a list of them.

Run: python -m pytest tests/encoders/test_damaged_workers.py
"""

from __future__ import annotations

import os
import re
import signal

import pytest
from PIL import Image

from i0t import I0TError


@pytest.mark.parametrize("death", ["exit", "kill"])
def test_damaged_image_that_ends_its_worker_is_named(tmp_path, small, death):
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for row, path in enumerate(paths):
        Image.new("RGB", (32 + row, 32)).save(path)

    def preprocess(image):
        if image.width == 34:
            os.kill(os.getpid(), signal.SIGKILL) if death == "kill" else os._exit(3)
        return pixels(image)

    pixels, small.preprocess = small.preprocess, preprocess
    with pytest.raises(I0TError, match=f"a worker process died.* while it decoded {re.escape(str(paths[2]))}"):
        small.encode_images(paths, batch_size=1, workers=2)


def test_one_item_is_not_taken_for_a_list(small, tmp_path):
    for item in ("a.jpg", tmp_path / "a.jpg", Image.new("RGB", (32, 32))):
        with pytest.raises(I0TError, match=r"^encode_images\(.*: a list is expected, even of one item"):
            small.encode_images(item)
    with pytest.raises(I0TError, match=r"encode_texts\('a dog'\): a list is expected.*encode_texts\(\['a dog'\]\)"):
        small.encode_texts("a dog")
