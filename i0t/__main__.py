"""The console command `i0t` (also `python -m i0t`): one name for all programs on embeddings.

A program is imported only when it is called, so that `i0t --help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from i0t.parser import Parser
from i0t.program import program


class Versions(argparse.Action):
    """Print the versions in use, and exit. They are read only if asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from i0t.versions import versions_text

        print(versions_text())
        parser.exit()


class Command(NamedTuple):
    """One sub-command."""

    module: str  # has `main(argv) -> int`
    help: str


FOLDERS = """\
In a checkout, path files (root.txt, subroot.txt) are in its configs/, and results go to its tensors/. Installed without
one, i0t looks for path files in ~/.config/i0t, and writes to tensors/ in the current folder. I0T_CONFIGS and I0T_CACHE
name other folders for the path files and for the cache of features."""
COMMANDS = {
    "gap": Command("i0t.commands.gap", "measure the modality gap of embeddings, with error bars"),
    "standardize": Command("i0t.commands.standardize", "fit, merge and apply standardisers over any number of files"),
    "score": Command("i0t.commands.score", "score captions, texts and images against one another on one scale"),
    "search-eval": Command("i0t.commands.search_eval", "measure search in an index that mixes images and texts"),
    "advise": Command("i0t.commands.advise", "choose a gap remover and scores for your vectors, or none"),
    "scores": Command("i0t.commands.scores", "fit standardised scores, and write what a store keeps with each item"),
    "cutoff": Command("i0t.commands.cutoff", "find the score above which at most a stated share of wrong pairs lie"),
    "apply": Command("i0t.commands.apply", "write corrected vectors, and the query transform, for a vector store"),
    "export": Command("i0t.commands.export", "write a checkpoint for open_clip or transformers alone"),
    "models": Command("i0t.commands.models", "list the models that can be loaded, their licences, and which are here"),
    "cache": Command("i0t.commands.cache", "show or clear the cache of encoded features"),
}


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command that the first argument names, with the other arguments; without any, show the help."""
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(given or ["--help"])
    return import_module(COMMANDS[arguments.command].module).main(arguments.rest)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        prog="i0t",
        description="Measure the modality gap of CLIP-like models, remove it, and show the effect.",
        epilog=f"commands:\n{listing}\n\n`i0t COMMAND --help` explains each. Pages for the researcher, for search and "
        f"for caption\nscoring are in docs/.\n\n{FOLDERS}",
    )
    parser.add_argument("--version", action=Versions, nargs=0, help="show the versions in use, and exit")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the command")
    return parser


if __name__ == "__main__":
    sys.exit(main())
