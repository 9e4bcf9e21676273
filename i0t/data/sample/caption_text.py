"""Captions for scenes: long ones with places, and short ones without.

Long captions are full sentences that say where each object is, as in ShareGPT4V; short ones are
lists in any order, as people write for Flickr30k and COCO. Training on one kind and testing on the
other is the paper's distribution shift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from i0t.data.sample.scenes import Object, Scene

# By cell, in reading order.
PLACES = (
    "in the upper left corner",
    "at the top",
    "in the upper right corner",
    "on the left",
    "in the centre",
    "on the right",
    "in the lower left corner",
    "at the bottom",
    "in the lower right corner",
)
COUNT_WORDS = ("no", "one", "two", "three", "four")

_OPENINGS = (
    "The picture shows {count} objects in {colours} on a {background} background.",
    "There are {count} objects in {colours} on a {background} background.",
)
_SENTENCES = (
    "A {size} {colour} {shape} is {place}.",
    "There is a {size} {colour} {shape} {place}.",
)
# A tenth of the long captions have a line break, as some of ShareGPT4V's do.
_LINE_BREAK_SHARE = 0.1


@dataclass(frozen=True)
class Mention:
    """The facts that a caption states about one object; None if it does not."""

    colour: str
    shape: str
    size: str | None = None
    cell: int | None = None

    @classmethod
    def of(cls, item: Object) -> Mention:
        """All of an object except its place."""
        return cls(item.colour, item.shape, item.size)

    def plain(self) -> Mention:
        """Return the mention without the size."""
        return replace(self, size=None)

    def words(self, article: bool = True) -> str:
        """E.g. "a small red circle at the top", or "small red circle at the top"."""
        place = None if self.cell is None else PLACES[self.cell]
        phrase = " ".join(word for word in (self.size, self.colour, self.shape, place) if word)
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}" if article else phrase


def long_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Write a summary sentence, then one sentence per object in reading order, with size, colour, shape, place.

    The summary ends at the first ". ", so the ShareGPT4V reader takes it as the short caption.

    Example:
        The picture shows three objects in red, blue and green on a white background. A small red circle
        is in the upper left corner. There is a big blue star in the centre. A big green cross is at the
        bottom.
    """
    opening = _pick(_OPENINGS, rng).format(
        count=COUNT_WORDS[len(scene.objects)],
        colours=_enumerate(list(dict.fromkeys(item.colour for item in scene.objects))),
        background=scene.background,
    )
    sentences = [
        _pick(_SENTENCES, rng).format(size=item.size, colour=item.colour, shape=item.shape, place=PLACES[item.cell])
        for item in scene.objects
    ]
    separator = "\n" if rng.random() < _LINE_BREAK_SHARE else " "
    return opening + separator + " ".join(sentences)


def short_captions(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[str]:
    """Write different short captions without places, at most ten.

    The first is always the plain list with every size, colour and shape; the others differ in order
    and wording, and some have no sizes.

    Example:
        ["a big blue star, a small red circle and a big green cross",
         "red circle, green cross, blue star",
         "picture of a red circle, a blue star and a green cross", ...]
    """
    others = 1 + rng.permutation(len(SHORT_FORMS) - 1)
    mentions = [Mention.of(item) for item in scene.objects]
    return [SHORT_FORMS[form].write(shuffled(mentions, rng)) for form in [0, *others[: count - 1].tolist()]]


def shuffled(mentions: Sequence[Mention], rng: np.random.Generator) -> list[Mention]:
    """Return the mentions in random order."""
    return [mentions[index] for index in rng.permutation(len(mentions)).tolist()]


def _enumerate(phrases: Sequence[str]) -> str:
    """E.g. "red, blue and green"."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _listed(mentions: Sequence[Mention]) -> str:
    return _enumerate([mention.words() for mention in mentions])


def _bare(mentions: Sequence[Mention]) -> str:
    return ", ".join(mention.words(article=False) for mention in mentions)


def _joined(mentions: Sequence[Mention]) -> str:
    return " and ".join(mention.words(article=False) for mention in mentions)


def _accompanied(mentions: Sequence[Mention]) -> str:
    return " with ".join(filter(None, (mentions[0].words(), _listed(mentions[1:]) if mentions[1:] else "")))


@dataclass(frozen=True)
class ShortForm:
    """One wording of a short caption."""

    frame: str  # with {} for the objects
    join: Callable[[Sequence[Mention]], str]
    sized: bool  # whether it names the sizes

    def stated(self, mentions: Sequence[Mention]) -> list[Mention]:
        """Return the mentions as this wording states them."""
        return list(mentions) if self.sized else [mention.plain() for mention in mentions]

    def write(self, mentions: Sequence[Mention]) -> str:
        """Write the caption."""
        return self.frame.format(self.join(self.stated(mentions)))


SHORT_FORMS = (
    ShortForm("{}", _listed, sized=True),
    ShortForm("{}", _listed, sized=False),
    ShortForm("{}", _bare, sized=True),
    ShortForm("{}", _bare, sized=False),
    ShortForm("{}", _accompanied, sized=True),
    ShortForm("{}", _accompanied, sized=False),
    ShortForm("picture of {}", _listed, sized=True),
    ShortForm("picture of {}", _listed, sized=False),
    ShortForm("{}", _joined, sized=True),
    ShortForm("{}", _joined, sized=False),
)


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
