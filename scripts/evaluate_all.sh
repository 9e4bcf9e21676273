#!/usr/bin/env bash
# The three evaluations one after another. Only flags that all three know can be passed on.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
for task in retrieval classification correlation; do
    bash "$here/evaluate_$task.sh" "$@"
done
