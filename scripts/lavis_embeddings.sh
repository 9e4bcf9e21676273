#!/usr/bin/env bash
# Embeddings files from LAVIS' own BLIP and BLIP-2, in the environment of setup_lavis.sh. --help lists the flags.
set -euo pipefail
REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${LAVIS_ENV:-$REPO/.venv-lavis}/bin/python"
if [ ! -x "$PYTHON" ]; then
    echo "error: there is no $PYTHON. Run: bash $REPO/scripts/setup_lavis.sh" >&2
    exit 2
fi
export PYTHONPATH="$REPO${PYTHONPATH:+:$PYTHONPATH}" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
# LAVIS' old requirements print many warnings that a user cannot change.
exec "$PYTHON" -W ignore "$REPO/environments/lavis_embeddings.py" "$@"
