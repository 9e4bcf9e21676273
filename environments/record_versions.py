"""Write constraints.txt: the versions that are installed here, of i0t's requirements and of what these require.

    bash scripts/record_versions.sh        after `bash scripts/test.sh` has passed

CUDA's libraries are left out: each build of torch names its own, and a CPU build has none. A local version such as
2.14.1+cu130 is written without its suffix, which any build of 2.14.1 satisfies.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TARGET = Path(__file__).with_name("constraints.txt")
OF_TORCH = ("nvidia-", "cuda-", "triton")
HEADER = """\
# Versions with which the tests passed, with Python {python} on {system}. scripts/setup.sh and environment.yml use them.
# Made by scripts/record_versions.sh.
"""


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what an installed distribution requires here, with these extras."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras | {""}):
            yield requirement


def closure(name: str, extras: set[str]) -> dict[str, str]:
    """Versions by name of all that an installed distribution requires, directly or not; not of itself."""
    found: dict[str, str] = {}
    todo, seen = [(name, frozenset(extras))], set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        for requirement in requirements(*one):
            other = canonicalize_name(requirement.name)
            try:
                found[other] = Version(distribution(other).version).public
            except PackageNotFoundError:
                raise SystemExit(
                    f"error: {one[0]} requires {other}, which is not installed. Run scripts/setup.sh."
                ) from None
            todo.append((other, frozenset(requirement.extras)))
    return found


def main() -> None:
    """Write the file."""
    kept = {name: version for name, version in closure("i0t", {"test"}).items() if not name.startswith(OF_TORCH)}
    header = HEADER.format(python=platform.python_version(), system=f"{platform.system()} {platform.machine()}")
    lines = [f"{name}=={version}" for name, version in sorted(kept.items())]
    TARGET.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(lines)} versions")


if __name__ == "__main__":
    main()
