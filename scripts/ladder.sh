#!/usr/bin/env bash
# Tables 1, 2 and 8: train every recipe, then evaluate each checkpoint: bash scripts/ladder.sh [recipe ...]
# Interrupted or repeated, it goes on where it was. Stage-2 recipes start from lccom. Seeds: SEED=42 (default 7).
# TASKS="retrieval" evaluates less. OUTPUT (default tensors/ladder) gets checkpoints, records and table.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
output="${OUTPUT:-$here/../tensors/ladder}"
seed="${SEED:-7}"
recipes=("$@")
[ $# -gt 0 ] || recipes=(lc lco lcco cloob unif_align lccom ln ln_async bn bn_async bn_async_no_mcsie)

trained() { ls -t "$output/checkpoints/$1-seed$seed-"*-last.safetensors | head -n 1; }
for recipe in "${recipes[@]}"; do
    case "$recipe" in
        *_async*) base=(--base "$(trained lccom)") ;;
        *) base=() ;;
    esac
    bash "$here/train.sh" --recipe "$recipe" --seed "$seed" --output "$output/checkpoints" "${base[@]}"
    for task in ${TASKS:-retrieval classification correlation}; do
        bash "$here/evaluate_$task.sh" --model "$(trained "$recipe")" --output "$output"
    done
done
