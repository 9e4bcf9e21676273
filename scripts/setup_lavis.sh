#!/usr/bin/env bash
# Make .venv-lavis, or $LAVIS_ENV, and install LAVIS with environments/lavis.txt (about 7 GB, once). i0t's own
# environment does not change. Python 3.11 is needed: python3.11 on the PATH, or $LAVIS_PYTHON.
set -euo pipefail
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
env="${LAVIS_ENV:-$REPO/.venv-lavis}"
base="${LAVIS_PYTHON:-python3.11}"
pins="$REPO/environments/lavis.txt"

if ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then  # missing or incomplete
    if ! "$base" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        echo "error: $base is not Python 3.11, which LAVIS' old requirements need. Install it, for example with" >&2
        echo "  conda create -n py311 python=3.11, and set LAVIS_PYTHON=/path/to/python3.11" >&2
        exit 2
    fi
    echo "Making $env"
    "$base" -m venv "$env"
fi
# As in setup.sh: if the pins change, install again.
if ! cmp -s "$pins" "$env/.lavis-setup"; then
    echo "Installing LAVIS into $env (several minutes, once)"
    "$env/bin/python" -m pip install --quiet --upgrade pip wheel "setuptools<80"
    "$env/bin/python" -m pip install --quiet --requirement "$pins"
    cp "$pins" "$env/.lavis-setup"
fi
echo "LAVIS is ready: bash $REPO/scripts/lavis_embeddings.sh --help"
