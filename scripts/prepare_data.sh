#!/usr/bin/env bash
# Put a data set into the paper's layout from its owners' files: prepare_data.sh NAME --from FOLDER. --help lists all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.data.prepare "$@"
