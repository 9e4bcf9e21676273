"""`quiet_interrupts`: Ctrl-C while a program is being imported. Imports next to nothing, as it comes first."""

from __future__ import annotations

import os
import sys
from types import TracebackType

COMMAND = "i0t"  # the console command


def quiet_interrupts() -> None:
    """Let Ctrl-C end a program with one line while it is still being imported, which takes seconds.

    For the packages that hold programs. It does nothing but for `python -m PACKAGE...` and the console command: only
    while Python imports such a program's package, the name of the running script is "-m".
    """
    if os.path.basename("".join(sys.argv[:1])) in ("-m", COMMAND):
        shown = sys.excepthook

        def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            if issubclass(kind, KeyboardInterrupt):
                print("stopped: nothing was begun.", file=sys.stderr)
            else:
                shown(kind, error, traceback)

        sys.excepthook = show
