"""`i0t advise` and `i0t scores`: what is recommended where, and that the named commands do it.

Run: python -m pytest tests/search/test_advise.py
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from programs import check

from i0t.__main__ import main
from i0t.commands.advise import AdviseOptions, _commands, _flags_of
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.search import ScoreStandardizer
from i0t.search.advice import Advice, Candidate, advise
from i0t.search.results import differences
from i0t.standardize.registry import RemoverChoice


def pairs(n: int, texts_each: int, noise: float, seed: int = 0) -> Embeddings:
    """Images and texts in cones of their own, with a style that only their kind has; much noise: nothing matches."""
    rng = np.random.default_rng(seed)
    common, styles = rng.normal(size=(n, 32)), 2.5 * rng.normal(size=(2, n, 4))
    owners = np.repeat(np.arange(n), texts_each)
    sides = []
    for rows, style, axis in ((np.arange(n), styles[0], 32), (owners, styles[1], 36)):
        content = np.zeros((len(rows), 40))
        content[:, :32], content[:, axis : axis + 4] = common[rows], style[rows]
        sides.append(content + noise * rng.normal(size=content.shape) + 8 * np.eye(40)[axis])
    names, words = [f"{row}.jpg" for row in range(n)], [f"caption {row}" for row in range(len(owners))]
    return Embeddings(sides[0].astype("float32"), sides[1].astype("float32"), owners, names, words)


def run(line: str, capsys: pytest.CaptureFixture) -> str:
    assert main(shlex.split(line)) == 0, line
    return capsys.readouterr().out


def test_scores_are_recommended_where_they_help_and_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs(80, 3, noise=0.4).save("my pairs.safetensors")
    printed = run("advise 'my pairs.safetensors' --removers i0t_post --splits 2", capsys)
    choice = re.search(r"Recommended: (.*): mixed NDCG", printed)
    assert choice and "adaptive" in choice[1], printed
    commands = [line.strip().removeprefix("i0t ") for line in printed.splitlines() if line.startswith("  i0t")]
    assert len(commands) == 2
    for command in commands:
        assert check(f"i0t {command}") == 1
        run(command, capsys)
    assert ScoreStandardizer.load("scores/scores.safetensors").counts["image"] in (40, 80)


@pytest.mark.parametrize("choice", ["i0t_post", "constants", "whitening+adaptive"])
def test_the_commands_of_every_choice_run(tmp_path, monkeypatch, capsys, choice):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("i0t.commands.search_eval.TENSORS", tmp_path)
    path = pairs(80, 3, noise=0.4).save("my pairs.safetensors")
    remover, _, form = choice.partition("+") if choice != "constants" else ("none", "", choice)
    parameters = {"shrinkage": 0.8} if remover == "whitening" else {}
    candidate = Candidate(RemoverChoice(remover, parameters), form or "cosine")
    advice = Advice({candidate.name: candidate}, {}, choice=candidate.name)
    commands = _commands(advice, AdviseOptions((str(path),), ()))
    assert len(commands) == 2
    for command in commands:
        run(command.removeprefix("i0t "), capsys)
    if remover == "whitening":  # the scores of what the index then holds
        scores = ScoreStandardizer.load("scores/scores.safetensors")
        moved = load_embeddings("corrected/vectors.safetensors").image_features
        np.testing.assert_allclose(scores.vectors(load_embeddings(path).image_features, "image"), moved, atol=1e-6)


def test_commands_give_parameters_by_flags_that_are_there():
    assert _flags_of({"shrinkage": 0.5, "part": 0.7, "whole": True}) == "--shrinkage 0.5 --set part=0.7 whole=True"
    assert _flags_of({"name": "a b"}) == "--set 'name=a b'"
    assert _flags_of({}) == ""


def test_nothing_is_recommended_where_the_model_matches_nothing(tmp_path, capsys):
    path = pairs(60, 2, noise=9.0).save(tmp_path / "pairs.safetensors")
    printed = run(f"advise {path} --removers i0t_post --splits 2", capsys)
    assert "keep your vectors" in printed and "no method certainly beats" in printed and "  i0t" not in printed


def test_what_costs_r1_is_not_recommended(monkeypatch):
    """Both directions count, and a method that certainly loses R@1 is out, however well it ranks."""
    embeddings = pairs(60, 2, noise=1.0)
    first = advise(embeddings, [], splits=2)
    assert first.choice == "adaptive"

    def worst_first(method: object, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        return (images @ texts.T) * (-1 if isinstance(method, ScoreStandardizer) else 1)

    monkeypatch.setattr("i0t.search.pair_quality._scores", worst_first)
    second = advise(embeddings, [], splits=2)
    assert second.choice is None and "at the cost of R@1" in second.reason


def test_with_one_text_per_image_filters_by_kind_are_no_rivals():
    advice = advise(pairs(60, 1, noise=0.4), [RemoverChoice("z_score")], splits=2, sizes=(10,))
    assert advice.only_other and advice.rivals == ["rank_fusion", "min_max", "dbsf", "quotas", "raw"]
    assert set(advice.sizes[10]) == set(advice.candidates)
    assert "z_score+adaptive" in advice.results and advice.candidates["z_score+adaptive"].cost == 5
    with pytest.raises(I0TError, match="too few"):
        advise(pairs(12, 1, noise=0.4), [])


@pytest.mark.parametrize("remover", ["none", "z_score"])
def test_the_written_scales_are_those_of_the_items(tmp_path, capsys, remover):
    given = pairs(30, 1, noise=0.4)
    files = [tmp_path / "images.npy", tmp_path / "texts.npy"]
    for path, features in zip(files, (given.image_features, given.text_features[:25])):
        np.save(path, features)
    out = tmp_path / "out"
    run(f"scores {files[0]} {files[1]} --remover {remover} --output {out}", capsys)
    fitted = ScoreStandardizer.load(out / "scores.safetensors")
    scales = np.load(out / "text_scales.npy")
    assert scales.shape == (25, 2, 2)
    expected = fitted.scales(np.load(files[1]), "text", "image")
    np.testing.assert_allclose(scales[:, 0], expected, rtol=1e-5)
    run(f"scores {files[0]} {files[1]} --form constants --output {tmp_path / 'c'}", capsys)
    assert [path.name for path in Path(tmp_path / "c").iterdir()] == ["scores.safetensors"]


def test_scores_of_another_model_are_refused(tmp_path, capsys):
    for name in ("one", "two"):
        given = pairs(30, 1, noise=0.4)
        given.metadata["model"] = name
        given.save(tmp_path / f"{name}.safetensors")
    line = ["scores", str(tmp_path / "one.safetensors"), "--fit-on", str(tmp_path / "two.safetensors")]
    assert main([*line, "--output", str(tmp_path / "out")]) == 2
    assert "Make both with the same model" in capsys.readouterr().err


def test_the_choice_holds_for_all_candidates_at_once(monkeypatch):
    levels = {}

    def spy(results: object, rivals: object, metric: str, level: float = 0.95, **how: int) -> object:
        levels.setdefault(metric, set()).add(level)
        return differences(results, rivals, metric, level, **how)

    monkeypatch.setattr("i0t.search.advice.differences", spy)
    advice = advise(pairs(60, 2, noise=1.0), [RemoverChoice("z_score")], splits=2, sizes=())
    assert len(advice.candidates) == 6 and levels == {"ndcg": {1 - 0.05 / 5}, "i2t_r1": {0.95}, "t2i_r1": {0.95}}
