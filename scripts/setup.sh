#!/usr/bin/env bash
# Make .venv and install i0t with its requirements (about 6 GB with PyTorch's CUDA build, once).
# An active virtual or conda environment, or $PYTHON, is used instead of .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$PYTHON" = "$REPO/.venv/bin/python" ] && [ ! -x "$PYTHON" ]; then
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "error: python3 is $(python3 --version), 3.10 or newer is needed. Set PYTHON=/path/to/python." >&2
        exit 2
    fi
    echo "Making $REPO/.venv"
    python3 -m venv "$REPO/.venv"
fi
# A copy of setup.py marks what is installed: if setup.py changes, install again.
stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.i0t-setup"
if ! cmp -s "$REPO/setup.py" "$stamp"; then
    echo "Installing i0t and its requirements into $PYTHON (a few minutes, once)"
    "$PYTHON" -m pip install --quiet --upgrade pip
    "$PYTHON" -m pip install --quiet --editable "$REPO[test]"
    cp "$REPO/setup.py" "$stamp"
fi
