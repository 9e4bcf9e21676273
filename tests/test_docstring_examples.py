"""Every public function and class of the library rooms shows an example that the doctest run executes."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest

from i0t.paths import REPO

ROOMS = (
    "i0t/{gap,metrics,standardize,search,scoring}/**/*.py",
    "i0t/{embeddings,errors,features,files,npy,records}.py",
    "i0t/report/{calibration,definitions,figures,halves,page,pictures,prose,recall,sphere}.py",
    "i0t/encoders/{checkpoint,heads,openclip,positions,precision,spec}.py",
    "i0t/data/{caption_index,captions,census,class_sets,expected,fields,images,judgments,record_scan,sharegpt4v}.py",
    "baselines/{clip_layouts,cloob_loss,state_dicts,unif_align}.py",
    "evaluation/{comparison,completeness,gap_removal,pac_score,table,task}.py",
)
COMMANDS = {"main", "parse", "parser", "build_parser"}  # and add_*_flags: their example is the command in --help
NO_EXAMPLE = {
    "i0t/report/figures.py:save_figures": "draws ten files, which takes seconds",
    "i0t/report/page.py:render": "needs every number of a report",
    "i0t/report/page.py:write_report": "measures and draws a whole report, which takes seconds",
    "i0t/report/pictures.py:gap_picture": "UMAP takes seconds to compile",
    "i0t/report/sphere.py:sphere_points": "UMAP takes seconds to compile",
    "i0t/scoring/models.py:calibration_pairs": "needs a model and a data set on the disk",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def room_files(room: str) -> list[Path]:
    """The files of a pattern with at most one {a,b} in it; every part must match some."""
    before, _, rest = room.partition("{")
    names, _, after = rest.partition("}")
    patterns = [before + name + after for name in names.split(",")]
    found = {pattern: sorted(REPO.glob(pattern)) for pattern in patterns}
    assert all(found.values()), f"no such file: {', '.join(pattern for pattern in found if not found[pattern])}"
    return [path for paths in found.values() for path in paths]


def public(tree: ast.Module) -> Iterator[Definition]:
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            adds_flags = node.name.startswith("add_") and node.name.endswith("_flags")
            if not (node.name in COMMANDS or adds_flags):
                yield node


def runs_example(docstring: str | None) -> bool:
    examples = doctest.DocTestParser().get_examples(docstring or "")
    return any(doctest.SKIP not in example.options for example in examples)


def without_example(source: str) -> list[str]:
    """Public names of a module that show no example; a class may show it in a method."""
    names = []
    for node in public(ast.parse(source)):
        members = node.body if isinstance(node, ast.ClassDef) else []
        parts = [node, *(part for part in members if isinstance(part, Definition))]
        if not any(runs_example(ast.get_docstring(part)) for part in parts):
            names.append(node.name)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_shows_an_example(room):
    for path in room_files(room):
        file = path.relative_to(REPO).as_posix()
        lacking = [f"{file}:{name}" for name in without_example(path.read_text(encoding="utf-8"))]
        lacking = [name for name in lacking if name not in NO_EXAMPLE]
        assert not lacking, f"no example (>>>) in the docstring of {', '.join(lacking)}"


def test_exemptions_are_few_and_needed():
    assert len(NO_EXAMPLE) < 15
    for place in NO_EXAMPLE:
        file, _, name = place.partition(":")
        assert name in without_example((REPO / file).read_text(encoding="utf-8")), f"{place} needs no exemption"


def test_the_doctest_run_reaches_every_room(pytestconfig):
    assert pytestconfig.option.doctestmodules
    assert {room.partition("/")[0] for room in ROOMS} <= set(pytestconfig.getini("testpaths"))


@pytest.mark.parametrize(
    ("source", "lacking"),
    [
        ("def shown():\n    '''It is.\n\n    >>> shown()\n    '''", []),
        ("def bare():\n    '''It is not.'''", ["bare"]),
        ("def undocumented():\n    return 1", ["undocumented"]),
        ("def skipped():\n    '''\n    >>> skipped()  # doctest: +SKIP\n    '''", ["skipped"]),
        ("def in_prose():\n    '''Call it after the prompt >>> in_prose().'''", ["in_prose"]),
        ("class Bare:\n    '''It is not.'''\n\n    def method(self):\n        '''Nor this.'''", ["Bare"]),
        ("class Shown:\n    '''It is.\n\n    >>> Shown()\n    '''", []),
        ("class InMethod:\n    def method(self):\n        '''\n        >>> InMethod().method()\n        '''", []),
        ("@decorated\ndef wrapped():\n    '''It is not.'''", ["wrapped"]),
        ("def _private(): ...\ndef main(): ...\ndef add_gap_flags(): ...", []),
    ],
)
def test_a_name_without_an_example_is_found(source, lacking):
    assert without_example(source) == lacking
