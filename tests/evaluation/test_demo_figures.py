"""Intervals of the demo's figures, and what the figures of mixed search and of one scale say with and without a gap."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evaluation.demo_figures import mixed_by_method, mixed_figures, retrieval_figures
from evaluation.demo_rows import ROWS, best_rival, difference_table, plain_row, search_table, value_table
from evaluation.estimates import BLOCKS, estimate, mean_estimate
from i0t import Embeddings, Standardizer
from i0t.features import l2_normalize
from i0t.metrics.one_scale import one_scale_auc, one_scale_shares
from i0t.search.methods import label_of


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=1_000)


def test_interval_of_a_mean_is_the_classical_one(noise):
    found = mean_estimate(noise)
    assert found.value == noise.mean()
    assert found.margin == pytest.approx(2.01 * noise.std() / len(noise) ** 0.5, rel=0.25)  # 50 blocks: 10 % noise
    assert found.interval == (found.value - found.margin, found.value + found.margin)


def test_difference_of_the_same_items_is_paired(noise):
    shifted = noise + 0.1 + 0.01 * np.random.default_rng(1).normal(size=len(noise))
    difference = mean_estimate(shifted) - mean_estimate(noise)
    assert difference.value == pytest.approx(0.1, abs=0.01)
    assert difference.margin < 0.05 * mean_estimate(noise).margin


def test_groups_are_left_out_together(noise):
    """Five copies of an item say no more than one."""
    five = mean_estimate(np.repeat(noise, 5), np.repeat(np.arange(len(noise)), 5))
    assert five.margin == pytest.approx(mean_estimate(noise).margin)
    assert mean_estimate(np.repeat(noise, 5)).margin < 0.7 * five.margin
    few = estimate(lambda rows: float(len(rows)), np.array([0, 0, 1, 2]))
    assert sorted(few.left_out.tolist()) == [2, 3, 3] and few.value == 4 and len(five.left_out) == BLOCKS


def test_values_that_are_missing_do_not_count():
    assert mean_estimate(np.array([1.0, np.nan, 3.0])).value == 2.0


@pytest.fixture
def five_captions() -> Embeddings:
    """60 images with five captions near them, and a wide gap."""
    rng = np.random.default_rng(0)
    scenes, gap = rng.normal(size=(60, 32)), 12 * rng.normal(size=32)
    images = l2_normalize((scenes + gap).astype(np.float32))
    owners = np.repeat(np.arange(60), 5)
    texts = l2_normalize((scenes[owners] + 0.3 * rng.normal(size=(300, 32)) - gap).astype(np.float32))
    return Embeddings(images, texts, owners, [str(row) for row in range(60)], [f"text {row}" for row in range(300)])


def test_mixed_search_and_one_scale_show_the_gap_and_its_removal(five_captions):
    before = mixed_figures(five_captions)
    after = mixed_figures(
        Standardizer().fit_embeddings(five_captions).transform_embeddings(five_captions, check_overlap=False)
    )
    assert before["ndcg_other"].value == 0 and before["ndcg_own"].value > 0.9
    assert 0.3 < before["mixed_ndcg"].value < 0.35  # a third of the queries find their own kind
    assert after["ndcg_other"].value > 0.6 and after["ndcg_own"].value > 0.9
    by_method = mixed_by_method(five_captions)
    assert by_method["raw"]["mixed_ndcg"].value == before["mixed_ndcg"].value
    assert by_method["i0t_post"]["mixed_ndcg"].value == after["mixed_ndcg"].value
    table = search_table(by_method).splitlines()
    assert max(map(len, table)) <= 100 and len(table) == 2 + len(by_method)
    (best,) = [line for line in table[2:] if len(re.findall("±", line)) == 3]
    assert best.startswith(label_of(best_rival(by_method))), "the best rival has no difference to itself"
    assert float(table[-1].split()[-2]) == pytest.approx(
        by_method["i0t_post+adaptive"]["mixed_ndcg"].value - by_method[best_rival(by_method)]["mixed_ndcg"].value,
        abs=1e-3,
    )
    assert by_method["other_kind"]["ndcg_own"].value == by_method["own_kind"]["ndcg_other"].value == 0
    rows = np.arange(0, 300, 5)
    pairs = Embeddings(
        five_captions.image_features, five_captions.text_features[rows], np.arange(60), *[list("x" * 60)] * 2
    )
    moved = Standardizer().fit_embeddings(pairs).transform_embeddings(pairs, check_overlap=False)
    assert retrieval_figures(pairs)["one_scale"].value == 0 and retrieval_figures(moved)["one_scale"].value > 95


def test_shares_of_pairs_have_the_mean_that_is_printed(five_captions):
    images, texts = five_captions.image_features, five_captions.text_features[::5] + five_captions.image_features
    whole, shares = one_scale_auc(images, texts), one_scale_shares(images, texts)
    assert {name: pytest.approx(found.mean()) for name, found in shares.items()} == whole
    assert shares["above_text"].shape == (60,) and 0 < whole["above_text"] < 1


def test_tables_fit_a_terminal_and_show_intervals():
    names = "centroid_distance mixed_ndcg ndcg_other one_scale i2t_r1 t2i_r1 mean_r1 accuracy expert_tau_c cf_tau_b"
    figures = {
        row: {name: mean_estimate(np.arange(100.0) + place) for name in names.split()} for place, row in enumerate(ROWS)
    }
    values, differences = value_table(figures), difference_table(figures)
    assert max(map(len, f"{values}\n{differences}".splitlines())) <= 88
    assert "+5.000 ±0.000" in differences.splitlines()[-1] and "stage 1 " not in "".join(differences.splitlines()[1:])
    saved = plain_row(figures["i0t_post"], figures["stage1"], "stage1")
    low, high = saved["intervals"]["accuracy"]
    assert low < saved["accuracy"] < high and saved["minus_stage1"]["accuracy"] == [4.0, 4.0, 4.0]
