"""Scenes of coloured shapes: their content, drawing one at random, and painting it.

A scene is a 3 x 3 grid with at most one object per cell, on a plain background. Everything a caption
can say (size, colour, shape, place) is in the scene, so captions are true by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLOURS = {
    "red": (225, 25, 35),
    "orange": (255, 135, 0),
    "yellow": (250, 225, 20),
    "green": (20, 150, 50),
    "cyan": (30, 205, 225),
    "blue": (30, 60, 225),
    "purple": (135, 35, 170),
    "pink": (255, 130, 195),
}
# Greys only: no object has one, so none can vanish into the background.
BACKGROUNDS = {
    "white": (243, 243, 243),
    "light grey": (190, 190, 190),
    "dark grey": (85, 85, 85),
    "black": (18, 18, 18),
}
SIZES = {"small": 6.5, "big": 10.0}  # radius in pixels: 13 and 20 across, in cells of 21.3
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

PIXELS = 64
GRID = 3
CELLS = GRID * GRID
CELL_PIXELS = PIXELS / GRID
JITTER = 2.0  # pixels either way at most; less for big objects, which must stay inside their cell
OVERSAMPLE = 3  # painted this much larger and averaged down, for smooth edges
OBJECT_COUNTS = (2, 3, 4)
# Mostly 3 and 4: fewer objects give captions that fit several scenes.
OBJECT_COUNT_LIMITS = (0.1, 0.55)


@dataclass(frozen=True)
class Object:
    """One shape in its cell."""

    size: str  # key of SIZES
    colour: str  # key of COLOURS
    shape: str  # member of SHAPES
    cell: int  # 0..8 in reading order
    shift: tuple[int, int] = (0, 0)  # off the centre of the cell, x and y: -1, 0 or 1 times the jitter

    @property
    def content(self) -> tuple[str, str, str, int]:
        """The object without its jitter."""
        return self.size, self.colour, self.shape, self.cell


@dataclass(frozen=True)
class Scene:
    """Objects in reading order on a background. No two share a cell, nor both colour and shape."""

    objects: tuple[Object, ...]
    background: str  # key of BACKGROUNDS

    @property
    def content(self) -> frozenset[tuple[str, str, str, int]]:
        """The objects without background and jitter."""
        return frozenset(item.content for item in self.objects)


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene of two to four objects."""
    count = OBJECT_COUNTS[int(np.searchsorted(OBJECT_COUNT_LIMITS, rng.random(), side="right"))]
    kinds = rng.permutation(len(KINDS))[:count]
    return _assemble(rng, [KINDS[kind] for kind in kinds], rng.integers(len(SIZES), size=count))


def draw_class_scene(rng: np.random.Generator, kind: tuple[str, str], alone: bool) -> Scene:
    """A big object of one kind (colour, shape), alone or with a small one of another kind."""
    others = [other for other in KINDS if other != kind]
    kinds = [kind] if alone else [kind, others[rng.integers(len(others))]]
    return _assemble(rng, kinds, np.array([1, 0][: len(kinds)]))


def paint(scene: Scene) -> Image.Image:
    """The scene as a 64 x 64 RGB image."""
    image = Image.new("RGB", (PIXELS * OVERSAMPLE,) * 2, BACKGROUNDS[scene.background])
    canvas = ImageDraw.Draw(image)
    for item in scene.objects:
        radius = SIZES[item.size]
        row, column = divmod(item.cell, GRID)
        jitter = min(JITTER, CELL_PIXELS / 2 - radius)
        x = (column + 0.5) * CELL_PIXELS + jitter * item.shift[0]
        y = (row + 0.5) * CELL_PIXELS + jitter * item.shift[1]
        outline = [((x + radius * dx) * OVERSAMPLE, (y + radius * dy) * OVERSAMPLE) for dx, dy in _OUTLINES[item.shape]]
        canvas.polygon(outline, fill=COLOURS[item.colour])
    return image.reduce(OVERSAMPLE)


def _assemble(rng: np.random.Generator, kinds: list[tuple[str, str]], sizes: np.ndarray) -> Scene:
    """Give each object a cell and jitter; sort the objects into reading order."""
    names = tuple(SIZES)
    cells = rng.permutation(CELLS)[: len(kinds)].tolist()
    shifts = rng.integers(-1, 2, size=(len(kinds), 2)).tolist()
    objects = [
        Object(names[size], *kind, cell, (shift[0], shift[1]))
        for kind, size, cell, shift in zip(kinds, sizes.tolist(), cells, shifts, strict=True)
    ]
    background = tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    return Scene(tuple(sorted(objects, key=lambda item: item.cell)), background)


def _ring(count: int, radii: tuple[float, ...], start: float = -90.0) -> list[tuple[float, float]]:
    """Corners at equal angles, clockwise from `start` degrees, at the radii in turn."""
    angles = [math.radians(start + 360 * index / count) for index in range(count)]
    return [
        (radii[index % len(radii)] * math.cos(angle), radii[index % len(radii)] * math.sin(angle))
        for index, angle in enumerate(angles)
    ]


def _cross(arm: float) -> list[tuple[float, float]]:
    """A plus sign whose bars are 2 * `arm` wide."""
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return corners


# Corners for a radius of 1. Each is as different from the others as its cell allows: the square
# fills the cell, the diamond is narrow, the star has deep notches.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _ring(32, (1.0,)),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)],
    "star": _ring(10, (1.05, 0.43)),
    "cross": _cross(0.33),
    "diamond": [(0.0, -1.0), (0.7, 0.0), (0.0, 1.0), (-0.7, 0.0)],
}
