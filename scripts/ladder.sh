#!/usr/bin/env bash
# Tables 1, 2 and 8: train every recipe, then evaluate each checkpoint: bash scripts/ladder.sh [recipe ...]
# The same command resumes an interrupted run. Stage-2 recipes start from lccom. Seed: SEED=42 (default 7).
# TASKS="retrieval" evaluates only that. OUTPUT (default tensors/ladder) is for checkpoints and records.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n "2,4s/^# //p" "${BASH_SOURCE[0]}"; exit 0; fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
output="${OUTPUT:-$here/../tensors/ladder}"
recipes=("$@")
[ $# -gt 0 ] || recipes=(lc lco lcco cloob unif_align lccom ln ln_async bn bn_async bn_async_no_mcsie)

train() {  # train RECIPE FLAGS...: sets $checkpoint to the one that the trainer prints, of this or an earlier run
    local printed
    printed="$(bash "$here/train.sh" --recipe "$1" --seed "${SEED:-7}" --output "$output/checkpoints" "${@:2}")"
    checkpoint="$(sed -n 's/^last, noted in ckpt_file_name.txt: //p' <<<"$printed")"
    if [ -z "$checkpoint" ]; then
        echo "error: recipe $1 was stopped before its end. The same command resumes it." >&2
        exit 1
    fi
    [ "$1" != lccom ] || lccom="$checkpoint"
    echo "$printed"
}
for recipe in "${recipes[@]}"; do
    stage2=""
    if [[ "$recipe" == *_async* ]]; then [ -n "${lccom:-}" ] || train lccom; stage2=1; fi
    train "$recipe" ${stage2:+--base "$lccom"}
    for task in ${TASKS:-retrieval classification correlation}; do
        bash "$here/evaluate_$task.sh" --model "$checkpoint" --output "$output"
    done
done
