#!/usr/bin/env bash
# Stage 2, I0T_async: train the BatchNorm heads on the checkpoint that configs/ckpt_file_name.txt names.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run i0t.training --recipe bn_async "$@"
