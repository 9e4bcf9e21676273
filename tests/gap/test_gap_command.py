"""`i0t` and `i0t gap`: what is printed and written, from files and from a model, and what is refused.

Run: python -m pytest tests/gap/test_gap_command.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from report_cases import page_data

import i0t
from evaluation.table import main as records_as_table
from i0t import Embeddings, modality_gap
from i0t.__main__ import COMMANDS, main
from i0t.commands import gap
from i0t.gap.intervals import gap_intervals
from i0t.paths import REPO
from i0t.report import ReportOptions


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Images and texts of 80 pairs with a gap in dimensions 2 and 5."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(80, 8))
    texts = images + rng.normal(size=(80, 8)) + 3 * np.eye(8)[2] + 2 * np.eye(8)[5]
    return images.astype(np.float32), texts.astype(np.float32)


@pytest.fixture
def files(tmp_path: Path, pair) -> dict[str, list[str]]:
    """The same pairs in every form that is read."""
    np.save(tmp_path / "images.npy", pair[0])
    np.save(tmp_path / "texts.npy", pair[1])
    np.save(tmp_path / "both.npy", np.stack(pair))
    names = [f"{row}.jpg" for row in range(80)]
    Embeddings(*pair, np.arange(80), names, names, metadata={"model": "tiny"}).save(tmp_path / "pair.safetensors")
    kinds = {"two": ["images.npy", "texts.npy"], "one": ["both.npy"], "safetensors": ["pair.safetensors"]}
    return {kind: [str(tmp_path / name) for name in found] for kind, found in kinds.items()}


@pytest.mark.parametrize("flags", [["--help"], []])
def test_help_lists_every_command(flags, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in shown and command.help in shown


def test_it_is_quick_to_start():
    """`i0t --help` and `import i0t`: neither loads torch, and each takes less than half a second of work."""
    code = (
        "import sys, time; start = time.process_time(); import i0t, i0t.__main__\n"
        "try: i0t.__main__.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert time.process_time() - start < 0.5"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, stdout=subprocess.DEVNULL)


def test_setup_makes_the_command():
    assert '"i0t = i0t.__main__:main"' in (REPO / "setup.py").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_teach_themselves(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0 and f"usage: i0t {name}" in capsys.readouterr().out


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["gapp"])
    assert stopped.value.code == 2 and "invalid choice: 'gapp'" in capsys.readouterr().err


def test_public_names():
    for name in i0t.__all__:
        assert getattr(i0t, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Standardiser'"):
        _ = i0t.Standardiser


def test_table_and_json(files, pair, tmp_path, capsys):
    target = tmp_path / "new" / "gap.json"
    assert main(["gap", *files["two"], "--bootstrap", "200", "--json", str(target)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 100
    assert shown[0] == "80 images, 80 texts, 80 pairs, 8 dimensions" and shown[-1] == str(target)
    found = json.loads(target.read_text())
    measured, intervals = modality_gap(*pair), gap_intervals(*pair, n_bootstrap=200)
    for name, one in found["measures"].items():
        assert one["value"] == pytest.approx(measured[name], abs=1e-6)
        expected = intervals[name]
        assert one["method"] == expected.method
        assert one["low"] == (None if np.isnan(expected.low) else pytest.approx(expected.low, abs=1e-5))
    assert found["measures"]["min_cosine_distance"]["low"] is None  # JSON knows no NaN
    assert [part["dimension"] for part in found["dimensions"][:2]] == [2, 5]
    assert found["dimensions"][0]["text_mean"] > found["dimensions"][0]["image_mean"]
    assert found["top_share"]["5"] >= found["top_share"]["1"] == pytest.approx(found["dimensions"][0]["share"])
    assert found["trust"] == ["rough: error bars from fewer than 100 pairs are themselves uncertain"]
    for title, _ in gap.ROWS.values():
        assert any(line.startswith(title) for line in shown)
    assert {name for name, value in measured.items() if isinstance(value, float)} - set(gap.ROWS) == {
        "first_cross_modal_rank"  # the mean of the two that are shown
    }


def test_every_form_of_the_same_pairs_agrees(files, tmp_path, capsys):
    found = []
    for number, paths in enumerate(files.values()):
        target = tmp_path / f"{number}.json"
        assert main(["gap", *paths, "--bootstrap", "0", "--json", str(target)]) == 0
        found.append(json.loads(target.read_text()))
    assert found[0]["measures"] == found[1]["measures"] == found[2]["measures"]
    assert found[2]["origin"]["model"] == "tiny"
    assert "low" not in found[0]["measures"]["alignment"] and found[0]["severity_range"] is None
    assert "95 %" not in capsys.readouterr().out


def test_output_is_a_record_of_what_json_holds(files, tmp_path, capsys):
    folder, target = tmp_path / "new" / "out", tmp_path / "gap.json"
    flags = ["--bootstrap", "100", "--output", str(folder), "--json", str(target)]
    assert main(["gap", *files["safetensors"], *flags]) == 0
    (path,) = folder.iterdir()
    assert path.name.startswith("gap-pair-tiny-") and capsys.readouterr().out.splitlines()[-2:] == [
        str(target),
        str(path),
    ]
    record, found = json.loads(path.read_text()), json.loads(target.read_text())
    for name, one in found["measures"].items():
        assert record["gap"][name] == record["metrics"][name] == one["value"], name
        assert record["metrics"][f"{name}_low"] == one["low"], name
    for part in ("severity_range", "dimensions", "top_share", "trust", "origin"):
        assert record[part] == found[part]
    assert record["config"]["model"]["name"] == "tiny" and record["config"]["flags"]["bootstrap"] == 100
    assert set(record["headline"]) <= set(record["metrics"])
    capsys.readouterr()
    assert records_as_table([str(path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_report_and_table_have_the_same_numbers(files, tmp_path, capsys):
    """The page's column of the whole file equals the table."""
    flags = ["--bootstrap", "0", "--json", str(tmp_path / "gap.json"), "--report", str(tmp_path)]
    assert main(["gap", *files["safetensors"], "--projection", "pca", *flags]) == 0
    found, page = json.loads((tmp_path / "gap.json").read_text()), page_data(tmp_path / "report.html")
    for name, columns in page["measures"].items():
        assert columns["all"] == pytest.approx(found["measures"][name]["value"], rel=1e-6), name
    assert page["severity"]["all"] == found["severity"]


def test_quick_without_intervals(tmp_path, capsys):
    """1 000 pairs of 512 dimensions: 5 seconds of work, imports included; here they are loaded already."""
    images, texts = np.random.default_rng(0).normal(size=(2, 1000, 512)).astype(np.float32)
    np.save(tmp_path / "both.npy", np.stack([images + 1, images + texts - 1]))
    start = time.process_time()
    assert main(["gap", str(tmp_path / "both.npy"), "--bootstrap", "0"]) == 0
    assert time.process_time() - start < 5
    assert "severity: severe" in capsys.readouterr().out


@pytest.mark.parametrize("captions", [1, 5])
def test_a_model_and_a_data_set(captions, configs, tmp_path, capsys):
    target = tmp_path / "gap.json"
    flags = ["--model", "tiny", "--dataset", "flickr", "--captions-per-image", str(captions), "--workers", "0"]
    assert main(["gap", *flags, "--bootstrap", "0", "--device", "cpu", "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    assert found["counts"] == {"n_images": 20, "n_texts": 20 * captions, "n_pairs": 20 * captions, "dim": 128}
    assert found["origin"]["model"] == "tiny" and len(found["origin"]["fingerprint"]) == 16
    assert "20 images" in capsys.readouterr().out


def test_report_is_asked_for_lazily(files, tmp_path, monkeypatch, capsys):
    """The page is made by the report room, with what was read and the flags."""
    import types

    calls = []

    def write_report(embeddings, folder, options):
        calls.append((len(embeddings.texts), folder, options))
        return Path(folder) / "report.html"

    page = types.ModuleType("i0t.report.page")
    page.write_report = write_report
    monkeypatch.setitem(sys.modules, "i0t.report.page", page)
    flags = ["--bootstrap", "0", "--report", str(tmp_path / "page"), "--projection", "pca"]
    assert main(["gap", *files["one"], *flags, "--neighbors", "9", "--seed", "3"]) == 0
    assert calls == [(80, str(tmp_path / "page"), ReportOptions("pca", neighbors=9, seed=3))]
    assert capsys.readouterr().out.endswith("report.html\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give embeddings"),
        (["--model", "tiny"], "both --model and --dataset"),
        (["a.npy", "--model", "tiny", "--dataset", "flickr"], "give embeddings"),
        (["gone.npy"], "gone.npy: no such file"),
        (["gone.npy", "--report", "page", "--neighbors", "1"], "--neighbors 1: UMAP needs 2 or more"),
        (["gone.safetensors"], "gone.safetensors: no such file"),
        (["a.npy", "b.safetensors"], "give an Embeddings file"),
        (["a.txt"], "give an Embeddings file"),
        (["a.npy", "--bootstrap", "5"], "at least 100 resamples"),
    ],
)
def test_refused_in_one_line(flags, message, capsys):
    assert main(["gap", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_bad_row_is_named(pair, tmp_path, capsys):
    images = pair[0].copy()
    images[7] = np.nan
    np.save(tmp_path / "bad.npy", np.stack([images, pair[1]]))
    assert main(["gap", str(tmp_path / "bad.npy"), "--json", str(tmp_path / "gap.json")]) == 2
    assert "bad.npy: images: row 7 holds NaN" in capsys.readouterr().err
    assert not (tmp_path / "gap.json").exists()


@pytest.mark.parametrize("page", ["researcher.md"])
def test_examples_of_the_documentation_run(page):
    """The doctest of the documentation page."""
    import doctest

    failed, run = doctest.testfile(str(REPO / "docs" / page), module_relative=False)
    assert run > 5 and failed == 0


def test_json_may_not_be_an_input_or_a_folder(files, tmp_path, capsys):
    before = (tmp_path / "texts.npy").read_bytes()
    assert main(["gap", *files["two"], "--json", str(tmp_path / "texts.npy")]) == 2
    assert "texts.npy: is an input, and --json would overwrite it" in capsys.readouterr().err
    assert main(["gap", *files["two"], "--json", str(tmp_path)]) == 2
    assert "is a folder. Give --json the name of a file" in capsys.readouterr().err
    assert (tmp_path / "texts.npy").read_bytes() == before
