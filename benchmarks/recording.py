"""Run every program by its command line, seeded and small, and keep all results, for `same_numbers`."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RECORDED = "recorded.json"  # about the recording
DATA = "--data-dir {at}/sample/data_dir --data-dir-sub {at}/sample/data_dir_sub --workers 0"
SHORT = {  # abbreviations in STEPS
    "data": DATA,
    "to": f"--output {{step}} {DATA}",
    "size": "--train 400 --flickr 60 --coco 40 --nocaps 20 --birdsnap-per-class 2 --judged 30",
    "demo": "train=400 flickr=60 coco=1 nocaps=1 birdsnap_per_class=2 judged=30 --workers 0 steps=6 warmup_steps=2",
    "brief": "--seed 7 batch_size=32 warmup_steps=2 save_every=5",
    "model": "--model kept/stage1.safetensors",
    "npy": "inputs/images.npy inputs/texts.npy",
    "gap": "--json {step}/gap.json --seed 0 --bootstrap 200",
    "shard": "--images inputs/shards/img_emb/img_emb_{n}.npy --texts inputs/shards/text_emb/text_emb_{n}.npy --jobs 1",
}
# Step, script of scripts/ or module, flags. An asterisk matches files of earlier steps.
STEPS = """
sample: i0t.data.sample --output sample {size}
check: check_data.sh --json --dataset flickr --dataset birdsnap --dataset flickr8k_expert {data}
stage1: train.sh --recipe lccom --base tiny {brief} steps=12 validate_every=6 {to}
stage2: post_train.sh --base kept/stage1.safetensors {brief} steps=6 {to}
train-lc: train.sh --recipe lc --base tiny {brief} steps=3 validate_every=0 {to}
train-lco: train.sh --recipe lco --base tiny {brief} steps=3 validate_every=0 {to}
train-chunks: train.sh --recipe lcco --base tiny chunk_size=8 {brief} steps=3 validate_every=0 {to}
train-ln: train.sh --recipe ln --base tiny {brief} steps=3 validate_every=0 {to}
train-bn: train.sh --recipe bn --base tiny {brief} steps=3 validate_every=0 {to}
train-ln_async: train.sh --recipe ln_async --base kept/stage1.safetensors {brief} steps=3 {to}
train-one_view: train.sh --recipe bn_async_no_mcsie --base kept/stage1.safetensors {brief} steps=3 {to}
train-cloob: train.sh --recipe cloob --base kept/stage1.safetensors {brief} steps=3 validate_every=0 {to}
train-unif_align: train.sh --recipe unif_align --base tiny {brief} steps=3 validate_every=0 {to}
retrieval-none: evaluate_retrieval.sh {model} --dataset flickr --dataset coco --dataset nocaps {to}
retrieval-tiny: evaluate_retrieval.sh --model tiny --seed 3 --dataset coco --no-cache {to}
retrieval-half: evaluate_retrieval.sh {model} --dataset coco --precision bf16 {to}
retrieval-async: evaluate_retrieval.sh --model kept/stage2.safetensors --dataset flickr {to}
retrieval-post: evaluate_retrieval.sh {model} --dataset flickr --remove-gap i0t_post {to}
retrieval-train: evaluate_retrieval.sh {model} --dataset flickr --remove-gap i0t_post --fit-on train {to}
retrieval-z_score: evaluate_retrieval.sh {model} --dataset flickr --remove-gap z_score {to}
retrieval-whitening: evaluate_retrieval.sh {model} --dataset flickr --remove-gap whitening --fit-on train {to}
retrieval-shifted: evaluate_retrieval.sh {model} --dataset flickr --remove-gap mind_the_gap --shift-lambda 0.5 {to}
retrieval-five: evaluate_retrieval.sh {model} --dataset flickr --captions-per-image 5 --bootstrap 200 {to}
retrieval-means: evaluate_retrieval.sh {model} --dataset coco --remove-gap i0t_post --fit-on kept/means.safetensors {to}
retrieval-npy: evaluate_retrieval.sh --embeddings {npy} --remove-gap z_score --fit-on inputs/fit.npy {to}
retrieval-file: evaluate_retrieval.sh --embeddings kept/flickr.safetensors --remove-gap whitening {to}
retrieval-both: evaluate_retrieval.sh --embeddings kept/five.safetensors --remove-gap i0t_post \
--fit-on kept/means.safetensors {to}
classification-none: evaluate_classification.sh {model} --dataset birdsnap {to}
classification-raw: evaluate_classification.sh {model} --dataset birdsnap --prompt-mean raw {to}
classification-post: evaluate_classification.sh {model} --dataset birdsnap --remove-gap i0t_post {to}
classification-train: evaluate_classification.sh {model} --dataset birdsnap --remove-gap z_score --fit-on train {to}
classification-file: evaluate_classification.sh --embeddings kept/birdsnap.safetensors --remove-gap mind_the_gap {to}
correlation-i0t_s: evaluate_correlation.sh {model} --dataset flickr8k_expert --dataset flickr8k_cf {to}
correlation-pac_s: evaluate_correlation.sh {model} --dataset flickr8k_expert --score pac_s {to}
correlation-clip_s: evaluate_correlation.sh {model} --dataset flickr8k_expert --score clip_s {to}
correlation-average: evaluate_correlation.sh {model} --dataset flickr8k_expert --average-ratings {to}
correlation-post: evaluate_correlation.sh {model} --dataset flickr8k_expert --remove-gap i0t_post {to}
correlation-train: evaluate_correlation.sh {model} --dataset flickr8k_cf --remove-gap i0t_post --fit-on train {to}
table: table.sh retrieval-*/*.json classification-*/*.json correlation-*/*.json
gap-npy: i0t gap {npy} {gap}
gap-file: i0t gap kept/flickr.safetensors {gap}
gap-model: i0t gap {model} --dataset flickr --captions-per-image 5 {gap} {data}
report-npy: i0t gap {npy} --bootstrap 0 --report {step} --projection pca
report-umap: i0t gap {npy} --bootstrap 0 --report {step}
report-file: i0t gap kept/five.safetensors --bootstrap 0 --report {step} --projection pca
search-halves: i0t search-eval {npy} --splits 5 --output {step}
search-file: i0t search-eval kept/flickr.safetensors --splits 5 --k 5 --output {step}
search-fitted: i0t search-eval {npy} --fit-on inputs/fit.npy --index IVF8,Flat --output {step}
search-judged: i0t search-eval {npy} --qrels inputs/judged.qrels --fit-on inputs/fit.npy --output {step}
search-asked: i0t search-eval {npy} --qrels inputs/judged.qrels --queries inputs/fit.npy --fit-on {npy} --output {step}
apply-z_score: i0t apply {npy} --fit-on {npy} --output {step}
apply-whitening: i0t apply {npy} --fit-on inputs/fit.npy --remover whitening --output {step}
apply-file: i0t apply kept/flickr.safetensors --fit-on kept/means.safetensors --remover i0t_post --output {step}
score-list: i0t score --pairs inputs/pairs.csv --images sample --csv {step}/scores.csv --json {step}/scores.json \
{model} --calibrate-on flickr --calibration-pairs 40 {to}
score-items: i0t score --image inputs/0.jpg --image inputs/1.jpg --caption "a red circle" --caption "two stars" \
--json {step}/scores.json {model} --remover z_score --calibrate-on train --calibration-pairs 50 {to}
shards-0: i0t standardize fit {shard} --output {step}/part.safetensors
shards-1: i0t standardize fit {shard} --output {step}/part.safetensors
shards-merged: i0t standardize merge shards-0/part.safetensors shards-1/part.safetensors --output {step}/all.safetensors
shards-moved: i0t standardize apply shards-merged/all.safetensors --folder inputs/shards --output {step} --jobs 1
demo: evaluation.demo --output demo --size {demo} batch_size=32 validate_every=0
"""
KEPT = {  # step: file for later steps, and its name there, as names of a run have digests
    "stage1": ("*last.safetensors", "stage1.safetensors"),
    "stage2": ("*last.safetensors", "stage2.safetensors"),
    "retrieval-none": ("*flickr*.embeddings.safetensors", "flickr.safetensors"),
    "retrieval-five": ("*.embeddings.safetensors", "five.safetensors"),
    "retrieval-post": ("*.means.safetensors", "means.safetensors"),
    "classification-none": ("*.embeddings.safetensors", "birdsnap.safetensors"),
}


def record(folder: Path, checkout: Path) -> int:
    """Run all steps in a new folder; return 1 if any failed."""
    if folder.exists():
        raise SystemExit(f"error: {folder} exists. Record into a new folder.")
    (folder / "kept").mkdir(parents=True)
    notes = shutil.ignore_patterns("root.txt", "subroot.txt", "ckpt_file_name.txt")
    shutil.copytree(checkout / "configs", folder / "configs", ignore=notes)
    seconds: dict[str, float] = {}
    failed = []
    for name, line in re.findall("^(.+?): (.+)$", STEPS, re.MULTILINE):
        started = time.perf_counter()
        status = _run(name, line, folder, checkout)
        seconds[name] = round(time.perf_counter() - started, 1)
        if status == 0 and name in KEPT:
            pattern, kept = KEPT[name]
            shutil.copy(max((folder / name).glob(pattern)), folder / "kept" / kept)
        elif status == 0 and name == "sample":
            _make_inputs(folder)
        failed += [name] if status else []
        print(
            f"{seconds[name]:6.1f} s  {name}{f': FAILED, see {folder / name}/stderr.txt' if status else ''}", flush=True
        )
    git = subprocess.run(["git", "-C", checkout, "describe", "--always", "--dirty"], capture_output=True, text=True)
    about = {"folder": str(folder), "checkout": str(checkout), "commit": git.stdout.strip(), "failed": failed}
    about["machine"] = [platform.platform(), *(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy"))]
    (folder / RECORDED).write_text(json.dumps({**about, "seconds": seconds}, indent=1))
    print(f"{sum(seconds.values()):6.1f} s  {folder}{f', failed: {failed}' if failed else ''}")
    return int(bool(failed))


def _run(name: str, line: str, folder: Path, checkout: Path) -> int:
    """Run one step in `folder`; return its exit status."""
    values = {"step": name, "at": shlex.quote(str(folder)), "n": name[-1]}
    short = {key: text.format(**values) for key, text in SHORT.items()}
    program, *flags = shlex.split(line.format(**values, **short))
    flags = [part for flag in flags for part in (sorted(map(str, folder.glob(flag))) if "*" in flag else [flag])]
    is_script = program.endswith(".sh")
    start = ["bash", str(checkout / "scripts" / program)] if is_script else [sys.executable, "-m", program]
    own = {"PYTHON": sys.executable, "PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    # Sums depend on the number of threads. Files of earlier runs in the checkout are neither used nor changed.
    own |= {"OMP_NUM_THREADS": "1", "I0T_CONFIGS": str(folder / "configs"), "I0T_CACHE": str(folder / "cache")}
    (folder / name).mkdir()
    with (folder / name / "printed.txt").open("w") as out, (folder / name / "stderr.txt").open("w") as errors:
        done = subprocess.run([*start, *flags], cwd=folder, env={**os.environ, **own}, stdout=out, stderr=errors)
    return done.returncode


def _make_inputs(folder: Path) -> None:
    """Make a user's files: pairs in two cones, shards of them, judgments, a list of captions to score."""
    rng, inputs = np.random.default_rng(0), folder / "inputs"
    meaning, cones = rng.normal(size=(600, 64)), rng.normal(size=(2, 1, 64))
    both = meaning + 2 * cones + 1.5 * rng.normal(size=(2, 600, 64))
    both = (both / np.linalg.norm(both, axis=2, keepdims=True)).astype(np.float32)
    for kind, short, rows in (("images", "img", both[0, :400]), ("texts", "text", both[1, :400])):
        shards = inputs / "shards" / f"{short}_emb"
        shards.mkdir(parents=True)
        np.save(inputs / f"{kind}.npy", rows)
        for number, part in enumerate(np.split(rows.astype(np.float16), [150])):
            np.save(shards / f"{short}_emb_{number}.npy", part)
    np.save(inputs / "fit.npy", both[:, 400:])
    sides = (("text", "image", 0), ("image", "text", 100))  # query, document, first row: no query is a document
    judged = [(*side, row, grade) for side in sides for row in range(40) for grade in (1, 2)]
    lines = [
        f"{one}:{first + row} 0 {other}:{first + row + 40 * (2 - grade)} {grade}\n"
        for one, other, first, row, grade in judged
    ]
    (inputs / "judged.qrels").write_text("".join(lines))
    images = sorted((folder / "sample").rglob("flickr30k-images/*.jpg"))[:6]
    for number, image in enumerate(images[:2]):
        shutil.copy(image, inputs / f"{number}.jpg")
    names = [image.relative_to(folder / "sample").as_posix() for image in images]
    rows = [{"image": name, "caption": f"a {word} shape"} for name, word in zip(names, ("red", "blue", "small"))]
    rows += [{**rows[0], "references": json.dumps(["a red star", "shapes"])}]
    rows += [{"image": names[4], "other_image": names[5]}, {"caption": "a star", "other_caption": "a red star"}]
    with (inputs / "pairs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ("image", "caption", "other_image", "other_caption", "references"))
        writer.writeheader()
        writer.writerows(rows)
