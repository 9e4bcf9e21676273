#!/usr/bin/env bash
# Check which data sets are present, complete and readable, and where to get the others. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.data.check "$@"
