#!/usr/bin/env bash
# Stage 1: train the encoders on long captions (recipe lccom). --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.training "$@"
