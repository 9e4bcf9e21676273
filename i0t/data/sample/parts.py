"""Parts of the sample: which part a scene belongs to, and scene number i of a part.

A digest of the content decides which part a scene belongs to; a part draws until it gets one of its
own. So no two parts share content, and the processes that draw need not share anything.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from i0t.data.sample.caption_text import short_captions
from i0t.data.sample.scenes import KINDS, Scene, draw_class_scene, draw_scene


class Part(IntEnum):
    """The parts of the sample; the number goes into the seed of every scene."""

    TRAIN = 0
    VALIDATION = 1
    FLICKR = 2
    COCO = 3
    NOCAPS = 4
    JUDGED = 5
    CLASSES = 6


# Ten sixteenths of all content is for training, one sixteenth for each other part.
_SHARES = (Part.TRAIN,) * 10 + tuple(part for part in Part if part is not Part.TRAIN)


def owner(scene: Scene) -> Part:
    """Return the part that scenes of this content belong to."""
    if len(scene.objects) == 1:
        return Part.CLASSES  # no other part has scenes of a single object
    digest = blake2b(repr(sorted(scene.content)).encode(), digest_size=8).digest()
    return _SHARES[int.from_bytes(digest, "big") % len(_SHARES)]


def generator(seed: int, part: Part, index: int, *purpose: int) -> np.random.Generator:
    """Make the random generator of one scene, the same in every process."""
    return np.random.default_rng([seed, int(part), index, *purpose])


def scene_at(seed: int, part: Part, index: int) -> tuple[Scene, np.random.Generator]:
    """Draw scene `index` of a part; return it with its generator, for the wording of the captions.

    In the class folders, scene `index` shows class `index % 48`; half of these scenes have a second object.
    """
    rng = generator(seed, part, index)
    kind = KINDS[index % len(KINDS)]
    # Drawn once, before the loop: scenes of one object are always accepted and would become too many.
    alone = part is Part.CLASSES and rng.random() < 0.5
    while True:
        scene = draw_class_scene(rng, kind, alone) if part is Part.CLASSES else draw_scene(rng)
        if owner(scene) is part:
            return scene, rng


@lru_cache(maxsize=64)
def captioned_scene(seed: int, part: Part, index: int, captions: int = 5) -> tuple[Scene, tuple[str, ...]]:
    """Draw scene `index` of a part with its short captions.

    Cached, because the candidates of a rated image use the captions of the next ones.
    """
    scene, rng = scene_at(seed, part, index)
    return scene, tuple(short_captions(scene, rng, captions))
