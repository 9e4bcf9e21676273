#!/usr/bin/env bash
# What is kept of earlier encoding, in tensors/cache; --clear removes it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.commands.cache "$@"
