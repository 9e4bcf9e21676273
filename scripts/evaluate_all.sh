#!/usr/bin/env bash
# The three evaluations one after another; one that fails (no data set there, say) does not stop the next.
# Only flags that all three know can be passed on.
set -uo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
status=0
for task in retrieval classification correlation; do
    bash "$here/evaluate_$task.sh" "$@" || status=$?
done
exit $status
