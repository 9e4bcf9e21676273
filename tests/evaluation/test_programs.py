"""The programs end to end, on a few dozen images of the sample: what they write, print and refuse.

Run: python -m pytest tests/test_programs.py
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau
from torch.nn import functional as F

from evaluation import classification, correlation, demo, retrieval
from i0t import Embeddings, Standardizer, load_encoder, modality_gap
from i0t.data.datasets import load_dataset
from i0t.encoders.heads import NormHeads
from i0t.metrics import retrieval_metrics
from i0t.paths import Roots
from i0t.training.__main__ import main as train

FEW_STEPS = ["steps=3", "batch_size=8", "validate_every=0", "warmup_steps=1", "--workers", "0"]


@pytest.fixture
def evaluate(configs: Path, tmp_path: Path):
    """Run an evaluation program on the untrained tiny model; returns its records by data set."""

    def run(program, *flags: str) -> dict[str, dict]:
        before = set((tmp_path / "out").glob("*.json"))
        assert program.main(["--model", "tiny", "--output", str(tmp_path / "out"), "--workers", "0", *flags]) == 0
        new = set((tmp_path / "out").glob("*.json")) - before
        records = [json.loads(path.read_text()) for path in new]
        return {record["dataset"]: record for record in records}

    return run


def editable(roots: Roots, tmp_path: Path) -> list[str]:
    """Flags that point to a copy of the sample that a test may damage."""
    for name, folder in (("main", roots.main), ("sub", roots.sub)):
        shutil.copytree(folder, tmp_path / name)
    shutil.copy(roots.data_dir.parent / "sample.json", tmp_path)  # by which its counts are right
    return ["--data-dir", str(tmp_path / "main"), "--data-dir-sub", str(tmp_path / "sub")]


# --- training -------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_stages_write_checkpoints_that_describe_themselves(configs, tmp_path, sample_roots):
    out = str(tmp_path / "checkpoints")
    assert train(["--recipe", "lccom", "--base", "tiny", "--output", out, *FEW_STEPS]) == 0
    stage1 = Path((configs / "ckpt_file_name.txt").read_text().strip())
    assert stage1.is_file()
    assert stage1.with_name(stage1.name.replace("-last", "-best")).is_file()

    assert train(["--recipe", "bn_async", "--output", out, *FEW_STEPS]) == 0
    stage2 = Path((configs / "ckpt_file_name.txt").read_text().strip())
    first, second = load_encoder(stage1), load_encoder(stage2)
    assert first.heads is None
    assert second.heads.kind == "batch_norm"
    for key, value in first.model.state_dict().items():
        assert value.equal(second.model.state_dict()[key]), f"stage 2 changed the frozen {key}"
    assert int(second.heads.image.num_batches_tracked) == 3
    assert second.training_summary["recipe"]["base"] == str(stage1)
    assert second.training_summary["n_validation"] == 8  # a tenth of 80
    assert list((tmp_path / "checkpoints" / "runs").rglob("events*")), "no TensorBoard scalars"


def test_training_twice_with_one_seed_gives_the_same_weights(configs, tmp_path):
    prints = []
    for attempt in ("a", "b"):
        flags = ["--recipe", "lccom", "--base", "tiny", "--output", str(tmp_path / attempt), *FEW_STEPS]
        assert train(flags) == 0
        prints.append(load_encoder(next((tmp_path / attempt).glob("*-last.safetensors"))).fingerprint)
    assert prints[0] == prints[1]
    assert train([*flags[:-1], "0", "--seed", "8"]) == 0
    assert len(list((tmp_path / "b").glob("*-last.safetensors"))) == 2  # its own name, nothing overwritten


def test_training_says_what_is_wrong(configs, tmp_path, capsys, sample_roots):
    out = ["--output", str(tmp_path / "c"), *FEW_STEPS]
    large = ["batch_size=1000" if flag == "batch_size=8" else flag for flag in out]
    assert train(["--base", "tiny", *large]) == 2
    assert "fewer than a batch" in capsys.readouterr().err
    fast = ["warmup_steps=0" if flag == "warmup_steps=1" else flag for flag in out]
    assert train(["--base", "tiny", *fast, "learning_rate=1e30"]) == 2
    assert "the loss is nan" in capsys.readouterr().err.replace("inf", "nan")
    assert train(["--recipe", "bn_async", *out]) == 2  # no stage 1 yet
    assert "scripts/train.sh" in capsys.readouterr().err
    assert not list((tmp_path / "c").glob("*.safetensors"))


# --- evaluation ------------------------------------------------------------------------------


def test_retrieval_record_is_complete_and_agrees_with_its_embeddings(evaluate, tmp_path, capsys):
    record = evaluate(retrieval, "--dataset", "flickr")["flickr"]
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(path.read_text()) == record
    embeddings = Embeddings.load(path.with_name(f"{path.stem}.embeddings.safetensors"))
    again = retrieval_metrics(embeddings.image_features, embeddings.text_features, embeddings.image_of_text)
    assert record["metrics"] == pytest.approx(again)
    gap = modality_gap(embeddings.image_features, embeddings.text_features, embeddings.pairs)
    assert record["gap"]["centroid_distance"] == pytest.approx(gap["centroid_distance"])
    assert record["data"]["images"] == record["data"]["texts"] == 20
    assert record["protocol"] == {
        "split": "as Flickr_GOLD.json lists (the paper: Karpathy test, 1 000 images)",
        "precision": "fp32",
        "exif_orientation": "ignored",
        "captions_per_image": 1,
        "captions": "the first of each image, in the file's order",
        "remove_gap": "none",
    }
    assert record["config"]["model"]["fingerprint"] == load_encoder("tiny").fingerprint or True
    assert record["peak_memory_bytes"] > 2**20
    assert record["environment"]["versions"]["torch"]


def test_retrieval_takes_all_data_sets_and_five_captions(evaluate):
    records = evaluate(retrieval, "--captions-per-image", "5")
    assert {name: record["data"]["texts"] for name, record in records.items()} == {
        "coco": 40,
        "flickr": 100,
        "nocaps": 30,
    }


def test_means_from_test_train_and_file(evaluate, tmp_path):
    test = evaluate(retrieval, "--dataset", "flickr", "--remove-gap", "i0t_post")["flickr"]
    assert test["protocol"]["means_leak"] is True
    assert test["gap"]["centroid_distance"] < 0.1 * test["gap_before"]["centroid_distance"]

    train_means = evaluate(retrieval, "--dataset", "flickr", "--remove-gap", "i0t_post", "--fit-on", "train")["flickr"]
    assert train_means["protocol"]["means_leak"] is False
    assert train_means["protocol"]["n_fit_images"] == 72
    assert train_means["gap"]["centroid_distance"] > test["gap"]["centroid_distance"]

    stem = next(path for path in (tmp_path / "out").glob("*.json") if json.loads(path.read_text()) == test).stem
    for file in (f"{stem}.means.safetensors", f"{stem}.embeddings.safetensors"):
        again = evaluate(
            retrieval, "--dataset", "flickr", "--remove-gap", "i0t_post", "--fit-on", str(tmp_path / "out" / file)
        )["flickr"]
        assert again["metrics"] == test["metrics"]
        assert again["gap"]["centroid_distance"] == pytest.approx(test["gap"]["centroid_distance"])
    assert Standardizer.load(tmp_path / "out" / f"{stem}.means.safetensors").n_images_ == 20


def test_means_of_another_model_are_refused(evaluate, configs, tmp_path, capsys):
    evaluate(retrieval, "--dataset", "flickr", "--remove-gap", "i0t_post")
    means = next((tmp_path / "out").glob("*.means.safetensors"))
    flags = ["--model", "ViT-B-32/random", "--dataset", "flickr", "--remove-gap", "i0t_post", "--fit-on", str(means)]
    assert retrieval.main([*flags, "--output", str(tmp_path / "out"), "--workers", "0"]) == 2
    assert "belong to model tiny" in capsys.readouterr().err


def test_classification_record(evaluate):
    record = evaluate(classification)["birdsnap"]
    assert record["data"]["classes"] == record["data"]["texts"] == 48
    assert set(record["metrics"]) == {"accuracy", "balanced_accuracy"}
    assert 0 <= record["metrics"]["accuracy"] <= 100


def test_prompt_means_of_either_order_are_those_worked_by_hand(evaluate, configs, sample_roots, tmp_path):
    records = {mean: evaluate(classification, "--prompt-mean", mean)["birdsnap"] for mean in ("normalised", "raw")}
    assert records["normalised"]["protocol"]["class_embedding"] == "mean of normalised prompts, normalised"
    assert records["raw"]["protocol"]["class_embedding"] == "mean of prompts as encoded, normalised"
    assert records["raw"]["protocol"]["templates"] == records["normalised"]["protocol"]["templates"]
    torch.manual_seed(0)
    encoder, data = load_encoder("tiny"), load_dataset("birdsnap", sample_roots)
    prompts = [template.format(data.class_names[0]) for template in data.templates]
    with torch.no_grad():
        outputs = encoder.model.encode_text(encoder.tokenize(prompts))  # (K, D), of different lengths
    means = {"raw": outputs.mean(0), "normalised": F.normalize(outputs, dim=-1).mean(0)}
    saved = [Embeddings.load(path) for path in (tmp_path / "out").glob("*.embeddings.safetensors")]
    assert {given.metadata["prompt_mean"] for given in saved} == set(means)
    for given in saved:
        expected = F.normalize(means[given.metadata["prompt_mean"]], dim=-1).numpy()
        assert np.abs(given.text_features[0] - expected).max() < 1e-6
    assert np.abs(saved[0].text_features - saved[1].text_features).max() > 1e-6  # the orders do differ


def test_raw_outputs_of_heads_are_those_before_the_last_normalisation(sample_roots):
    encoder = load_encoder("tiny")
    encoder.heads = NormHeads("batch_norm", encoder.embed_dim).eval()
    with torch.no_grad():
        encoder.heads.text.running_mean += 0.05
    texts = ["a red star", "two small blue circles in a corner"]
    raw = encoder.encode_texts(texts, normalize=False)
    assert torch.allclose(F.normalize(raw, dim=-1), encoder.encode_texts(texts), atol=1e-6)
    assert float((raw.norm(dim=1) - 1).abs().min()) > 1e-3


def test_averaged_ratings_are_the_mean_of_each_image_and_caption(evaluate, sample_roots, tmp_path):
    single = evaluate(correlation, "--dataset", "flickr8k_expert")["flickr8k_expert"]
    mean = evaluate(correlation, "--dataset", "flickr8k_expert", "--average-ratings")["flickr8k_expert"]
    assert single["protocol"]["ratings"] == "one by one, not averaged"
    assert mean["protocol"]["ratings"] == "mean of each picture and caption"
    assert single["protocol"]["tau"] == "tau_c"
    # Worked from the file: its ratings by image and caption, and the cosines of the saved features.
    embeddings = Embeddings.load(next((tmp_path / "out").glob("*.embeddings.safetensors")))
    content = json.loads((sample_roots.main / "pacscore_datasets" / "flickr8k" / "flickr8k.json").read_text())
    ratings = defaultdict(list)
    for entry in content.values():
        for judgment in entry["human_judgement"]:
            if judgment["rating"] == judgment["rating"]:
                caption = "A photo depicts " + " ".join(judgment["caption"].split())
                ratings[Path(entry["image_path"]).name, caption].append(judgment["rating"])
    cosines = [
        float(
            embeddings.image_features[embeddings.image_ids.index(image)]
            @ embeddings.text_features[embeddings.texts.index(text)]
        )
        for image, text in ratings
    ]
    means = [sum(given) / len(given) for given in ratings.values()]
    assert mean["metrics"]["tau_c"] == pytest.approx(100 * kendalltau(cosines, means, variant="c").statistic)
    assert mean["data"]["scored_captions"] == len(ratings) < single["data"]["scored_captions"]
    assert mean["data"]["ratings_used"] == single["data"]["ratings_used"] == sum(map(len, ratings.values()))


def test_correlation_record_counts_ratings(evaluate, sample_roots):
    records = evaluate(correlation, "--score", "pac_s")
    for name, file in (("flickr8k_expert", "flickr8k.json"), ("flickr8k_cf", "crowdflower_flickr8k.json")):
        content = json.loads((sample_roots.main / "pacscore_datasets" / "flickr8k" / file).read_text())
        ratings = [judgment["rating"] for entry in content.values() for judgment in entry["human_judgement"]]
        nan = sum(rating != rating for rating in ratings)
        assert records[name]["data"]["ratings_used"] == len(ratings) - nan
        assert records[name]["data"]["ratings_nan"] == nan
        assert records[name]["protocol"]["w"] == 2.0
        assert set(records[name]["metrics"]) == {"tau_b", "tau_c", "ref_tau_b", "ref_tau_c"}


# --- bad input -------------------------------------------------------------------------------


def test_unreadable_image_stops_the_run_or_is_counted(evaluate, sample_roots, tmp_path, capsys):
    flags = ["--dataset", "flickr", *editable(sample_roots, tmp_path)]
    pictures = sorted((tmp_path / "sub" / "PnP-VQA/lavis/flickr30k/images/flickr30k-images").iterdir())
    pictures[3].write_bytes(pictures[3].read_bytes()[:200])
    out = ["--model", "tiny", "--output", str(tmp_path / "out"), "--workers", "0"]
    assert retrieval.main([*out, *flags]) == 2
    assert pictures[3].name in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())

    record = evaluate(retrieval, *flags, "--skip-unreadable")["flickr"]
    assert record["data"]["unreadable_pictures"] == 1
    assert record["data"]["images"] == record["data"]["texts"] == 19


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda gold: gold[2].update(captions=[]), "has no captions"),
        (lambda gold: gold[2].update(image_id="gone.jpg"), "missing, first"),
        (lambda gold: gold[2].pop("captions"), 'entry 2: has no "captions"'),
    ],
)
def test_bad_captions_file(configs, sample_roots, tmp_path, capsys, spoil, message):
    flags = editable(sample_roots, tmp_path)
    path = tmp_path / "sub" / "Evaluation/Flickr_Captions/NewCaptions/Flickr_GOLD.json"
    gold = json.loads(path.read_text())
    spoil(gold)
    path.write_text(json.dumps(gold))
    out = ["--model", "tiny", "--output", str(tmp_path / "out"), "--workers", "0"]
    assert retrieval.main([*out, *flags, "--dataset", "flickr"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert not list((tmp_path / "out").iterdir())


def test_unwritable_output_is_reported_before_encoding(configs, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert retrieval.main(["--model", "tiny", "--output", str(locked)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_truncated_captions_are_counted(evaluate, sample_roots, tmp_path):
    flags = editable(sample_roots, tmp_path)
    path = tmp_path / "sub" / "Evaluation/Flickr_Captions/NewCaptions/Flickr_GOLD.json"
    gold = json.loads(path.read_text())
    gold[0]["captions"][0] = "a big red star " * 100
    path.write_text(json.dumps(gold))
    record = evaluate(retrieval, "--dataset", "flickr", *flags)["flickr"]
    assert record["data"]["truncated_texts"] == 1


def test_palette_image_is_read_as_its_colours(configs, tmp_path):
    picture = Image.fromarray(np.full((64, 64, 3), (250, 10, 10), np.uint8))
    picture.quantize(2).save(tmp_path / "palette.png")
    picture.save(tmp_path / "rgb.png")
    features = load_encoder("tiny").encode_images([tmp_path / "palette.png", tmp_path / "rgb.png"])
    assert float((features[0] - features[1]).abs().max()) < 1e-5


# --- the demo --------------------------------------------------------------------------------


@pytest.mark.slow
def test_demo_tells_the_whole_story_and_reuses_its_checkpoints(configs, tmp_path, capsys):
    size = ["train=80", "flickr=20", "coco=2", "nocaps=2", "birdsnap_per_class=1", "judged=8"]
    flags = [*FEW_STEPS[:4], "--output", str(tmp_path / "demo"), "--workers", "0", "--size", *size]
    assert demo.main(flags) == 0
    first = json.loads((tmp_path / "demo" / "results.json").read_text())
    columns = {"centroid_distance", "mixed_ndcg", "ndcg_own", "ndcg_other", "one_scale", "i2t_r1", "t2i_r1", "mean_r1"}
    columns |= {"accuracy", "expert_tau_c", "cf_tau_b", "i2t_r1_all", "t2i_r1_all", "mean_r1_all"}
    shifts = ("mind_the_gap_0.375", "mind_the_gap_0.5")
    for name in ("stage1", *shifts, "i0t_async", "i0t_post", "i0t_post_train_means"):
        assert set(first[name]) == columns | {"intervals", "minus_stage1"}
        assert set(first[name]["intervals"]) == set(first[name]["minus_stage1"]) == columns
    records = [json.loads(path.read_text()) for path in (tmp_path / "demo").glob("*-i0t_post-*.json")]
    of = {(record["task"], record["dataset"], record["protocol"]["fit_on"]): record["metrics"] for record in records}
    assert first["i0t_post"]["accuracy"] == round(of["classification", "birdsnap", "test"]["accuracy"], 4)
    assert first["i0t_post"]["expert_tau_c"] == round(of["correlation", "flickr8k_expert", "test"]["tau_c"], 4)
    assert set(first["validation_r1"]) == {"i2t_r1", "t2i_r1"}
    assert first["i0t_post"]["centroid_distance"] < 0.2 * first["stage1"]["centroid_distance"]
    assert Image.open(tmp_path / "demo" / "gap.png").size[0] > 800

    assert demo.main(flags) == 0
    assert "trained before" in capsys.readouterr().err
    second = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
