#!/usr/bin/env bash
# Set up if needed, then lint and every test. Arguments go to pytest: bash scripts/test.sh -k gap
set -euo pipefail
bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$REPO"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest "$@"
