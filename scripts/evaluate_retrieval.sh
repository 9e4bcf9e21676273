#!/usr/bin/env bash
# Image-text retrieval on COCO, Flickr30k, NoCaps. --help lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run evaluation.retrieval "$@"
