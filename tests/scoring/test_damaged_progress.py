"""Scores of an interrupted run: damaged lines, full disks, kills, two runs at once, Ctrl-C.

Run: python -m pytest tests/scoring/test_damaged_progress.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from full_disk import full_disk

from i0t.commands import score as program
from i0t.errors import I0TError
from i0t.locks import only_writer
from i0t.scoring import PairScorer, ScoredPair, resume


def test_damaged_lines_of_an_interrupted_run_are_scored_again(tmp_path, capsys):
    path, pairs = tmp_path / "partial", [ScoredPair((), (str(row), "x")) for row in range(6)]
    scored: list[str] = []

    def score(chunk):
        scored.extend(pair.texts[0] for pair in chunk)
        return [{"i0t_s": float(pair.texts[0])} for pair in chunk]

    list(resume.PartialScores(path, {"a": (1,)}).score(pairs, score))
    content = path.read_bytes()
    flipped = content.index(b'"i0t_s": 2.0') + 9
    zeroed = content.index(b'"i0t_s": 4.0')
    path.write_bytes(content[:flipped] + b"3" + content[flipped + 1 : zeroed] + bytes(9) + content[zeroed + 9 :])
    scored.clear()
    partial = resume.PartialScores(path, {"a": (1,)})
    assert "2 damaged lines are left out" in capsys.readouterr().err
    (rows,) = partial.score(pairs, score)
    assert scored == ["2", "4"] and [row["i0t_s"] for row in rows] == [0, 1, 2, 3, 4, 5]


def test_resuming_never_shortens_what_was_scored(tmp_path, monkeypatch):
    """Killed or out of space anywhere in the second run, the file keeps all lines of the first."""
    path, pairs = tmp_path / "partial", [ScoredPair((), (str(row), "x")) for row in range(40)]

    def score(chunk):
        return [{"i0t_s": 1.0} for _ in chunk]

    list(resume.PartialScores(path, {}).score(pairs[:20], score))
    before = path.read_bytes()
    with pytest.raises(I0TError, match="partial: cannot be written .* keeps the 20 pairs"), full_disk(len(before) + 99):
        list(resume.PartialScores(path, {}).score(pairs, score))
    assert path.read_bytes().startswith(before)
    assert len(resume.PartialScores(path, {}).known) >= 20

    def killed(chunk):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(resume.PartialScores(path, {}).score(pairs, killed))
    assert path.read_bytes().startswith(before)


@pytest.fixture
def flags(configs, sample_roots, tmp_path) -> list[str]:
    """Score six texts with one another, two pairs at a time."""
    (tmp_path / "pairs.csv").write_text("caption,other_caption\n" + "".join(f"{row},x\n" for row in range(6)))
    made = ["--pairs", str(tmp_path / "pairs.csv"), "--csv", str(tmp_path / "scores.csv")]
    return [*made, "--model", "tiny", "--workers=0", "--output", str(tmp_path / "kept"), "--calibration-pairs=8"]


def test_ctrl_c_says_where_it_stands_and_the_same_command_goes_on(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resume, "CHUNK", 2)
    score, calls = PairScorer.score, []

    def stopped_in_the_third(self, pairs):
        calls.append(pairs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, pairs)

    monkeypatch.setattr(PairScorer, "score", stopped_in_the_third)
    assert program.main(flags) == 130
    said, kept = capsys.readouterr().err, tmp_path / "scores.csv.partial"
    assert f"stopped: 4 of 6 pairs are scored; {kept} keeps them, and the same command goes on from there." in said
    assert kept.is_file() and not (tmp_path / "scores.csv").exists() and not list(tmp_path.glob(".*"))
    assert program.main(flags) == 0 and len(calls) == 4
    assert "4 pairs of an interrupted run" in capsys.readouterr().err and not kept.exists()


@pytest.mark.parametrize("target", ["scores.csv.partial", "kept/scores.json"])
def test_two_runs_that_write_the_same_are_told_apart(flags, tmp_path, capsys, target):
    (tmp_path / "kept").mkdir()
    with only_writer(tmp_path / target):
        assert program.main(flags) == 2
    said = capsys.readouterr().err
    assert f"{Path(target).name}: another run is writing it (process {os.getpid()} on " in said
    assert said.strip().count("\n") == 0
