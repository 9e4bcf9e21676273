#!/usr/bin/env bash
# Which data sets of the path files are there, complete and readable, and where to get the rest. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.data.check "$@"
