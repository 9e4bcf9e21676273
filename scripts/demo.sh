#!/usr/bin/env bash
# Set up if needed, then run the main experiment on the built-in sample: tensors/demo/results.json, gap.png.
set -euo pipefail
bash "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run evaluation.demo "$@"
