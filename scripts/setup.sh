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
constraints="$REPO/environments/constraints.txt"
# A copy of what is asked for marks what is installed: if it changes, install again.
stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.i0t-setup"
if ! cat "$REPO/setup.py" "$constraints" | cmp -s - "$stamp"; then
    echo "Installing i0t and its requirements into $PYTHON (a few minutes, once)"
    pip_install=("$PYTHON" -m pip install --quiet --editable "$REPO[test]")
    tested=(--only-binary :all: --constraint "$constraints")
    if [ "$PYTHON" != "$REPO/.venv/bin/python" ] && "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))'; then
        echo "It has torch already, so its versions stay where the ranges of setup.py allow them."
        "${pip_install[@]}"
    else
        "$PYTHON" -m pip install --quiet --upgrade pip
        if said="$("${pip_install[@]}" "${tested[@]}" 2>&1)"; then
            [ -z "$said" ] || echo "$said" >&2
        else
            here="$("$PYTHON" -c 'import platform as p; print("Python", p.python_version(), "on", p.system(), p.machine())')"
            echo "note: pip cannot install the tested versions (environments/constraints.txt) for $here; it takes what the ranges of setup.py allow." >&2
            "${pip_install[@]}"
        fi
    fi
    cat "$REPO/setup.py" "$constraints" > "$stamp"
fi
