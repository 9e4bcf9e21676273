#!/usr/bin/env bash
# Style (ruff) and types (mypy), as CI checks them: bash scripts/lint.sh [style|types]. Without an argument: both.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$REPO"
what="${1:-all}"
if [ "$what" != types ]; then
    "$PYTHON" -m ruff check .
    "$PYTHON" -m ruff format --check .
fi
if [ "$what" != style ]; then
    "$PYTHON" -m mypy
fi
