#!/usr/bin/env bash
# Set up if needed, then style, types and every test. Arguments go to pytest: bash scripts/test.sh -k gap
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
bash "$here/setup.sh"
bash "$here/lint.sh"
source "$here/common.sh"
cd "$REPO"
# One process per core, each with one thread; tests of a file stay together, as they share fixtures.
OMP_NUM_THREADS=1 exec "$PYTHON" -m pytest -n auto --dist loadfile "$@"
