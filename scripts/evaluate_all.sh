#!/usr/bin/env bash
# The three evaluations one after another; if one fails (e.g. without data), the next one still runs.
# Only flags of all three can be used.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
status=0
for task in retrieval classification correlation; do
    bash "$here/evaluate_$task.sh" "$@" || status=$?
done
exit $status
