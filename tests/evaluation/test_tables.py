"""Tables of records: models and removers as rows; different protocols are always shown.

Run: python -m pytest tests/test_tables.py
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from evaluation import retrieval, table
from i0t.results.comparison import differing

RECORD = {
    "task": "retrieval",
    "dataset": "flickr",
    "metrics": {"i2t_r1": 70.0, "i2t_r5": 90.0, "t2i_r1": 60.0},
    "gap": {"centroid_distance": 0.5},
    "protocol": {"split": "test", "precision": "fp32", "captions_per_image": 1, "remove_gap": "none"},
    "config": {"model": {"name": "clip", "fingerprint": "aaaaaaaaaaaa"}},
    "data": {"sha256": "1234567890", "images": 1000, "texts": 1000, "built_in_sample": False},
}
POST = {"remove_gap": "i0t_post", "fit_on": "test", "fit_dataset": "flickr", "n_fit_images": 1000, "n_fit_texts": 1000}
CORRELATION = {
    "task": "correlation",
    "dataset": "flickr8k_cf",
    "metrics": {"tau_b": 33.0, "tau_c": 22.0},
    "protocol": {"score": "i0t_s", "clip": False, "tau": "tau_b", "remove_gap": "none"},
}


@pytest.fixture
def write(tmp_path: Path):
    """Write records that differ from RECORD in the fields given as {section: changes}; returns their paths."""

    def write_all(*changes: dict) -> list[str]:
        paths = []
        for number, change in enumerate(changes):
            record = deepcopy(RECORD)
            for key, value in change.items():
                record[key] = {**record[key], **value} if key in ("data", "metrics") else value
                if key == "protocol":
                    record[key] = {**RECORD["protocol"], **value} if "score" not in value else value
            paths.append(str(tmp_path / f"{number}.json"))
            Path(paths[-1]).write_text(json.dumps(record))
        return paths

    return write_all


def shown(capsys: pytest.CaptureFixture, *arguments: str) -> list[str]:
    assert table.main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_models_and_removers_are_rows_of_one_protocol(write, capsys):
    longclip = {"model": {"name": "longclip", "fingerprint": "bbbbbbbbbbbb"}}
    leaking = {"protocol": {**POST, "means_leak": True}, "metrics": {"i2t_r1": 71.5}}
    honest = {"protocol": {**POST, "fit_on": "train", "fit_dataset": "sharegpt4v", "means_leak": False}}
    lines = shown(capsys, *write({}, {"config": longclip}, leaking, honest))
    assert lines[0] == "retrieval, flickr"
    assert lines[1].split() == ["model", "gap", "removed", "means", "of", "CD", "i2t_r1", "t2i_r1"]
    rows = [line.split() for line in lines[3:7]]
    assert rows[0] == ["clip", "-", "-", "0.50", "70.00", "60.00"]
    assert rows[1][0] == "longclip"
    assert " ".join(rows[2]) == "clip i0t_post test (1000, leak) 0.50 71.50 60.00"
    assert " ".join(rows[3]) == "clip i0t_post sharegpt4v (1000) 0.50 70.00 60.00"
    assert not any("NOT ONE PROTOCOL" in line for line in lines)
    assert "captions_per_image: 1" in " ".join(lines[7:])  # what all share is stated


def test_parameters_of_removers_belong_to_the_row_not_to_the_protocol(write, capsys):
    whitening = {"protocol": {**POST, "remove_gap": "whitening", "remover_parameters": {"shrinkage": 0.9}}}
    partly = {**POST, "means_leak": True, "fit_overlap": {"text_words": 0.004}, "remover_parameters": {}}
    shifts = [
        {
            "protocol": {**POST, "remove_gap": "mind_the_gap", "remover_parameters": {"shift_lambda": far}},
            "metrics": {"i2t_r1": figure},
        }
        for far, figure in ((0.5, 38.1), (0.375, 45.4))
    ]
    paths = write({}, whitening, *shifts, {"protocol": partly})
    lines = shown(capsys, *paths)
    assert not any("NOT ONE PROTOCOL" in line for line in lines)
    text = "\n".join(lines)
    assert "whitening 0.9" in text and "test (1000, leak of 0.4 %)" in text
    assert any("mind_the_gap 0.5 " in line and "38.10" in line for line in lines)
    assert any("mind_the_gap 0.375 " in line and "45.40" in line for line in lines)
    assert len(shown(capsys, *paths, "--join")) == 3 + 5  # headers and rows


@pytest.mark.parametrize(
    ("change", "field", "values"),
    [
        ({"protocol": {"captions_per_image": 5}}, "captions_per_image", ("1", "5")),
        ({"protocol": {"precision": "bf16"}}, "precision", ("fp32", "bf16")),
        ({"protocol": {"templates": ["a {}", "the {}"]}}, "templates", ("not recorded", "2 [")),
        ({"data": {"sha256": "9876543210"}}, "data sha256", ("123456", "987654")),
        ({"data": {"images": 999}}, "data images", ("1000", "999")),
        ({"data": {"completeness": {"state": "partial"}}}, "data completeness", ("not recorded", "partial")),
        ({"protocol": {"prefix": ""}}, "prefix", ("not recorded", "''")),
    ],
)
def test_a_difference_of_protocol_is_a_column_and_a_warning(write, capsys, change, field, values):
    paths = write({}, {**change, "metrics": {"i2t_r1": 10.0}})
    lines = shown(capsys, *paths)
    text = "\n".join(lines)
    assert f"NOT ONE PROTOCOL: the rows differ in {field}." in text
    first, second = (next(line for line in lines if figure in line) for figure in ("70.00", "10.00"))
    assert values[0] in first and values[1] in second
    assert f"{field}:" not in text.partition("All rows:")[2]

    assert table.main([*paths, "--join"]) == 2
    error = capsys.readouterr().err
    assert "flickr (retrieval)" in error and f"differ in {field}," in error


def test_lists_of_one_length_are_distinguished(write):
    first, second = ({"protocol": {"templates": [text, "the {}"]}, "data": {}} for text in ("a {}", "an {}"))
    assert differing([first, second]) == ["templates"]
    assert differing([first, deepcopy(first)]) == []


def test_one_name_and_two_weights_are_two_rows(write, capsys):
    other = {"config": {"model": {"name": "clip", "fingerprint": "cccccccccccc"}}, "metrics": {"i2t_r1": 10.0}}
    lines = shown(capsys, *write({}, other))
    assert [line.split()[1] for line in lines[3:5]] == ["[aaaaaa]", "[cccccc]"]


def test_same_run_twice_is_one_row_and_other_figures_are_refused(write, capsys):
    assert sum("70.00" in line for line in shown(capsys, *write({}, {}))) == 1
    paths = write({}, {"metrics": {"i2t_r1": 10.0}})
    for join in ([], ["--join"]):
        assert table.main([*paths, *join]) == 2
        assert paths[1] in capsys.readouterr().err


def test_intervals_are_shown_and_a_missing_name_of_the_model_is_said(write, capsys):
    resampled = {"i2t_r1_low": 67.14, "i2t_r1_high": 72.86}
    (path,) = write({"metrics": resampled, "config": {"model": {"name": None, "fingerprint": None}}})
    row = shown(capsys, path)[3]
    assert row.split("  ")[0] == "not recorded" and "70.00 [67.1, 72.9]" in row and row.endswith(" 60.00")


def test_join_puts_data_sets_side_by_side_with_the_papers_tau(write, capsys):
    coco = {"dataset": "coco", "metrics": {"i2t_r1": 33.5}, "data": {"sha256": "other"}}
    post = {"protocol": {**POST, "means_leak": True}, "metrics": {"i2t_r1": 71.5}}
    lines = shown(capsys, *write({}, coco, CORRELATION, post), "--join")
    assert lines[0].split()[-8:] == [*["flickr"] * 3, *["coco"] * 3, *["flickr8k_cf"] * 2]
    assert lines[1].split()[-2:] == ["CD", "tau_b"]
    assert lines[3].split() == ["clip", "-", "-", "0.50", "70.00", "60.00", "0.50", "33.50", "60.00", "0.50", "33.00"]
    assert lines[4].split()[:5] == ["clip", "i0t_post", "test", "(1000,", "leak)"]
    assert "71.50" in lines[4] and "33.50" not in lines[4]


def test_formats_and_metrics(write, capsys):
    paths = write({})
    assert (
        shown(capsys, *paths, "--format", "markdown", "--metrics", "i2t_r5")[1].replace(" ", "") == "|model|CD|i2t_r5|"
    )
    assert table.main([*paths, "--metrics", "r1"]) == 2
    assert "no metric r1. It has i2t_r1" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{}", '{"task": "retrieval"}', "no JSON"])
def test_other_files_are_refused_by_name(tmp_path, capsys, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    assert table.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_records_of_the_programs_themselves(configs, tmp_path, capsys):
    out = ["--model", "tiny", "--dataset", "flickr", "--workers", "0", "--output", str(tmp_path)]
    removers = [["--remove-gap", name] for name in ("i0t_post", "whitening", "mind_the_gap")]
    for flags in ([], *removers):
        assert retrieval.main([*out, *flags]) == 0
    capsys.readouterr()
    joined = shown(capsys, *map(str, tmp_path.glob("*.json")), "--join")
    assert sum("tiny" in line for line in joined) == 4
    for flags in (["--captions-per-image", "5"], ["--precision", "bf16"]):
        assert retrieval.main([*out, *flags]) == 0
    capsys.readouterr()
    lines = shown(capsys, *map(str, tmp_path.glob("*.json")))
    assert sum("tiny" in line for line in lines) == 6
    (warning,) = [line for line in lines if line.startswith("NOT ONE PROTOCOL")]
    for field in ("precision", "captions_per_image", "data texts"):
        assert field in warning
    assert all(len(line) <= 120 for line in lines)
