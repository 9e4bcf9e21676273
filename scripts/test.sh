#!/usr/bin/env bash
# Set up if needed, then lint and every test. Arguments go to pytest: bash scripts/test.sh -k gap
set -euo pipefail
bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$REPO"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
# One process a core, each with one thread; the tests of a file stay together, as they share what they make.
OMP_NUM_THREADS=1 exec "$PYTHON" -m pytest -n auto --dist loadfile "$@"
