#!/usr/bin/env bash
# List the cache of encoded features, tensors/cache; --clear removes it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.commands.cache "$@"
