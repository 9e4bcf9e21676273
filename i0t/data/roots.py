"""The data of a run: what flags or path files name, else the built-in sample, which is then made."""

from __future__ import annotations

import argparse

from i0t.paths import TENSORS, Roots, configs_folder, configured_roots, say


def roots_of(arguments: argparse.Namespace) -> Roots:
    """Data roots from the flags `--data-dir` and `--data-dir-sub`; see `resolve_roots`."""
    return resolve_roots(arguments.data_dir, arguments.data_dir_sub)


def resolve_roots(main: str | None = None, sub: str | None = None) -> Roots:
    """The data roots from flags, else from the path files, else the built-in sample.

    Args:
        main: `<data_dir>`, overrides `configs/root.txt`.
        sub: `<data_dir_sub>`, overrides `configs/subroot.txt`.

    Raises:
        I0TError: a path does not exist.
    """
    roots = configured_roots(main, sub)
    return roots if roots.main or roots.sub else _sample_roots()


def _sample_roots() -> Roots:
    from i0t.data.sample import data_dir, data_dir_sub, make_sample  # draws: not needed where data are named

    configs = configs_folder()
    say(
        f"Data: the built-in sample (for real data write <data_dir> into {configs / 'root.txt'} "
        f"and <data_dir_sub> into {configs / 'subroot.txt'})."
    )
    root = make_sample(TENSORS / "sample")
    return Roots(data_dir(root), data_dir_sub(root), is_sample=True)
