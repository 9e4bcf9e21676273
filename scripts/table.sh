#!/usr/bin/env bash
# Tables of records of evaluations, e.g. table.sh tensors/*.json. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run evaluation.table "$@"
