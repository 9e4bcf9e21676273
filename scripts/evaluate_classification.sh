#!/usr/bin/env bash
# Zero-shot classification of CIFAR-100 and Birdsnap. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run evaluation.classification "$@"
