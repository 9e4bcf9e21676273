#!/usr/bin/env bash
# Correlation of caption scores with human ratings, Flickr8k-Expert and -CF. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run evaluation.correlation "$@"
