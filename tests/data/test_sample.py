"""The built-in sample: exact layouts, determinism, true captions, ratings that follow correctness.

Run: python -m pytest tests/test_sample.py
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i0t.data.sample import SampleSize, data_dir, data_dir_sub, drawing, make_sample
from i0t.data.sample import candidates as rated
from i0t.data.sample.__main__ import main
from i0t.data.sample.annotations import CLASSES, TEMPLATES
from i0t.data.sample.caption_text import PLACES, SHORT_FORMS, Mention, long_caption, short_captions
from i0t.data.sample.parts import Part, captioned_scene, generator, owner, scene_at
from i0t.data.sample.scenes import (
    BACKGROUNDS,
    CELL_PIXELS,
    COLOURS,
    GRID,
    KINDS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    draw_scene,
    paint,
)
from i0t.errors import I0TError

TINY = SampleSize(train=60, flickr=12, coco=7, nocaps=6, birdsnap_per_class=2, judged=8)
SHAREGPT4V = "sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json"
FLICKR8K = "pacscore_datasets/flickr8k"
PLACE_WORDS = {"upper", "lower", "top", "bottom", "left", "right", "centre", "corner"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample(tmp_path_factory.mktemp("sample"), TINY, seed=3)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [draw_scene(rng) for _ in range(1_000)]


def load(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def assert_scene_picture(path: Path) -> None:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
        image.load()


# --- scenes ----------------------------------------------------------------------------------------


def test_scenes_are_well_formed(scenes: list[Scene]) -> None:
    for scene in scenes:
        cells = [item.cell for item in scene.objects]
        assert cells == sorted(set(cells)), "one object a cell, in reading order"
        assert len({(item.colour, item.shape) for item in scene.objects}) == len(scene.objects)
    assert set(Counter(len(scene.objects) for scene in scenes)) == {2, 3, 4}
    assert {item.colour for scene in scenes for item in scene.objects} == set(COLOURS)
    assert {item.shape for scene in scenes for item in scene.objects} == set(SHAPES)


def test_colours_are_clearly_distinct() -> None:
    tones = [np.array(tone, float) for tone in (COLOURS | BACKGROUNDS).values()]
    assert min(np.linalg.norm(one - other) for one, other in combinations(tones, 2)) > 60


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_objects_stay_in_their_cell(shape: str, size: str) -> None:
    background = np.array(BACKGROUNDS["white"])
    for cell, shift in ((4, (1, 1)), (4, (-1, -1)), (0, (-1, -1)), (8, (1, 0))):
        pixels = np.asarray(paint(Scene((Object(size, "red", shape, cell, shift),), "white")), int)
        rows, columns = np.nonzero(np.abs(pixels - background).sum(axis=2) > 60)
        row, column = divmod(cell, GRID)
        for found, start in ((rows, row * CELL_PIXELS), (columns, column * CELL_PIXELS)):
            assert math.floor(start) <= found.min() <= found.max() < math.ceil(start + CELL_PIXELS)
        assert len(rows) > 60, "large enough to be seen"


# --- captions --------------------------------------------------------------------------------------


def test_long_captions_name_everything(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(1)
    captions = [long_caption(scene, rng) for scene in scenes]
    for scene, caption in zip(scenes, captions, strict=True):
        summary, *sentences = caption.replace("\n", " ").rstrip(".").split(". ")
        assert scene.background in summary and all(item.colour in summary for item in scene.objects)
        assert len(sentences) == len(scene.objects)
        for item, sentence in zip(scene.objects, sentences, strict=True):
            assert f"{item.size} {item.colour} {item.shape}" in sentence
            assert PLACES[item.cell] in sentence
        assert 25 <= len(caption.split()) <= 75
    assert len(set(captions)) > 990
    assert any("\n" in caption for caption in captions)


def test_short_captions_are_of_another_style(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(2)
    firsts = []
    for scene in scenes:
        captions = short_captions(scene, rng, 10)
        assert len(set(captions)) == 10
        for caption in captions:
            assert not PLACE_WORDS & set(caption.replace(",", "").split())
            assert "." not in caption and caption == caption.lower()
            assert all(f"{item.colour} {item.shape}" in caption for item in scene.objects)
        assert all(f"{item.size} {item.colour} {item.shape}" in captions[0] for item in scene.objects)
        firsts.append(captions[0])
    assert len(set(firsts)) >= 950


def test_wording_of_one_scene() -> None:
    mentions = [
        Mention("red", "circle", "small", 4),
        Mention("orange", "star"),
        Mention("blue", "cross", "big"),
    ]
    written = [form.write(mentions) for form in SHORT_FORMS[:2]]
    assert written == [
        "a small red circle in the centre, an orange star and a big blue cross",
        "a red circle in the centre, an orange star and a blue cross",
    ]


# --- judgments -------------------------------------------------------------------------------------

SCENE = Scene((Object("big", "red", "circle", 0), Object("small", "blue", "star", 4)), "white")
CIRCLE, STAR = (Mention.of(item) for item in SCENE.objects)


@pytest.mark.parametrize(
    ("mentions", "expected"),
    [
        ([CIRCLE, STAR], 1),
        ([STAR, CIRCLE.plain()], 1),  # neither order nor silence about size costs
        ([replace(CIRCLE, cell=0), STAR], 1),
        ([replace(CIRCLE, cell=8), STAR], (7 / 9 + 1) / 2),
        ([replace(CIRCLE, size="small"), STAR], (6 / 7 + 1) / 2),
        ([replace(CIRCLE, colour="green"), STAR], (4 / 7 + 1) / 2),
        ([CIRCLE], 1 / 2),
        ([CIRCLE, STAR, Mention("green", "cross")], 2 / 3),
        ([Mention("green", "cross")] * 2, 0),
    ],
)
def test_correctness_by_hand(mentions: list[Mention], expected: float) -> None:
    assert rated.correctness(mentions, SCENE) == pytest.approx(expected)


def test_ratings_follow_correctness() -> None:
    expert, crowd, correct = defaultdict(list), defaultdict(list), defaultdict(list)
    for index in range(60):
        scene, references = captioned_scene(0, Part.JUDGED, index)
        others = [captioned_scene(0, Part.JUDGED, index + step)[0] for step in (1, 2, 3)]
        rng = generator(0, Part.JUDGED, index, 1)
        candidates = rated.draw_candidates(rated.CROWD_PLAN, scene, others, references, rng)
        assert len({candidate.text for candidate in candidates} | set(references)) == len(candidates) + 5
        for candidate in candidates:
            share = rated.correctness(candidate.mentions, scene)
            correct[candidate.kind].append(share)
            expert[candidate.kind] += rated.expert_ratings(share, rng)
            crowd[candidate.kind].append(rated.crowd_rating(share, rng))
    assert set(correct[rated.OWN]) == {1.0}
    assert max(correct[rated.SLIGHTLY_WRONG] + correct[rated.BADLY_WRONG]) < 1
    order = (rated.OWN, rated.SLIGHTLY_WRONG, rated.BADLY_WRONG, rated.OTHER)
    for ratings, step in ((expert, 0.4), (crowd, 0.1)):
        means = [np.mean(ratings[kind]) for kind in order]
        assert all(better > worse + step for better, worse in zip(means, means[1:], strict=False)), means


# --- files -----------------------------------------------------------------------------------------


def test_sharegpt4v_layout(root: Path) -> None:
    records = load(data_dir(root) / SHAREGPT4V)
    assert len(records) == TINY.train
    assert len({record["image"] for record in records}) == TINY.train
    for record in records:
        assert record["image"].startswith("coco/train2017/")
        assert_scene_picture(data_dir(root) / "sharegpt4v/data" / record["image"])
        assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"]
        assert PLACE_WORDS & set(record["conversations"][1]["value"].replace(".", "").split())


@pytest.mark.parametrize(
    ("captions", "images", "count"),
    [
        ("COCO_Captions/NewCaptions/COCO_GOLD.json", "coco/images/val2014", TINY.coco),
        ("Flickr_Captions/NewCaptions/Flickr_GOLD.json", "flickr30k/images/flickr30k-images", TINY.flickr),
    ],
)
def test_gold_layout(root: Path, captions: str, images: str, count: int) -> None:
    entries = load(data_dir_sub(root) / "Evaluation" / captions)
    assert len({entry["image_id"] for entry in entries}) == len(entries) == count
    for entry in entries:
        assert len(entry["captions"]) == 5
        assert_scene_picture(data_dir_sub(root) / "PnP-VQA/lavis" / images / Path(entry["image_id"]).name)


def test_nocaps_layout(root: Path) -> None:
    content = load(data_dir_sub(root) / "Evaluation/Nocaps_Captions/NewCaptions/NoCaps_GOLD.json")
    ids = [image["id"] for image in content["images"]]
    assert sorted(ids) == list(range(TINY.nocaps)) and ids != sorted(ids), "the join by id must matter"
    for image in content["images"]:
        assert_scene_picture(data_dir_sub(root) / "PnP-VQA/lavis/nocaps/images/val" / image["file_name"])
        captions = [note["caption"] for note in content["annotations"] if note["image_id"] == image["id"]]
        assert captions == list(captioned_scene(3, Part.NOCAPS, image["id"], 10)[1])
        assert image["file_name"] == f"{0x5A3B_0001 + image['id']:016x}.jpg"


def test_class_folders(root: Path) -> None:
    folder = data_dir(root) / "zeroshot_datasets/birdsnap"
    assert sorted(path.name for path in (folder / "test").iterdir()) == sorted(CLASSES)
    assert len(CLASSES) == 48 and "Red_Circle" in CLASSES
    for class_folder in (folder / "test").iterdir():
        pictures = list(class_folder.glob("*.jpg"))
        assert len(pictures) == TINY.birdsnap_per_class
        assert_scene_picture(pictures[0])
    assert tuple((folder / "templates.txt").read_text().splitlines()) == TEMPLATES
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_class_scenes_show_their_class() -> None:
    scenes = [scene_at(0, Part.CLASSES, index)[0] for index in range(4 * len(KINDS))]
    for index, scene in enumerate(scenes):
        big = [(item.colour, item.shape) for item in scene.objects if item.size == "big"]
        assert big == [KINDS[index % len(KINDS)]]
    alone = sum(len(scene.objects) == 1 for scene in scenes) / len(scenes)
    assert 0.35 < alone < 0.65
    assert max(len(scene.objects) for scene in scenes) == 2


@pytest.mark.parametrize(
    ("name", "plan", "per_candidate", "scale"),
    [
        ("flickr8k.json", rated.EXPERT_PLAN, 3, {1, 2, 3, 4}),
        ("crowdflower_flickr8k.json", rated.CROWD_PLAN, 1, {0, 1 / 3, 2 / 3, 1}),
    ],
)
def test_judgment_layout(root: Path, name: str, plan: tuple, per_candidate: int, scale: set) -> None:
    content = load(data_dir(root) / FLICKR8K / name)
    assert len(content) == TINY.judged
    ratings = []
    for entry in content.values():
        assert_scene_picture(data_dir(root) / FLICKR8K / "images" / Path(entry["image_path"]).name)
        assert len(entry["ground_truth"]) == 5
        counts = Counter(judgement["caption"] for judgement in entry["human_judgement"])
        assert list(counts.values()) == [per_candidate] * len(plan)
        assert not set(counts) & set(entry["ground_truth"])
        ratings += [judgement["rating"] for judgement in entry["human_judgement"]]
    lost = [rating for rating in ratings if math.isnan(rating)]
    assert 0 < len(lost) < 0.05 * len(ratings)
    assert {rating for rating in ratings if not math.isnan(rating)} == scale


# --- the whole -------------------------------------------------------------------------------------


def test_splits_hold_different_contents() -> None:
    held = {part: {scene_at(5, part, index)[0].content for index in range(200)} for part in Part}
    for one, other in combinations(Part, 2):
        assert not held[one] & held[other], (one, other)
    assert owner(scene_at(5, Part.COCO, 0)[0]) is Part.COCO


def test_same_seed_gives_same_bytes_with_any_number_of_processes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "worker_count", lambda total: 3)
    monkeypatch.setattr(drawing, "CHUNK", 7)
    assert contents(make_sample(tmp_path / "again", TINY, seed=3)) == contents(root)


def test_other_seed_gives_other_scenes(root: Path, tmp_path: Path) -> None:
    small = SampleSize(train=10, flickr=2, coco=1, nocaps=1, birdsnap_per_class=0, judged=1)
    one, other = (contents(make_sample(tmp_path / str(seed), small, seed)) for seed in (3, 4))
    pictures = [name for name in one if name.endswith(".jpg")]
    assert len(pictures) == 15 and not any(one[name] == other[name] for name in pictures)
    flickr = "data_dir_sub/PnP-VQA/lavis/flickr30k/images/flickr30k-images/1000000001.jpg"
    assert one[flickr] == contents(root)[flickr], "a scene does not depend on the size of the sample"


def test_second_call_returns_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = load(root / "sample.json")
    assert marker["seed"] == 3 and marker["size"]["flickr"] == TINY.flickr
    assert marker["judgments"] == "constructed, not human"
    monkeypatch.setattr("i0t.data.sample.writer.draw_all", lambda *_: pytest.fail("drawn again"))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert make_sample(root, TINY, seed=3) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_killed_run_and_other_size_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = SampleSize(train=20, flickr=2, coco=2, nocaps=1, birdsnap_per_class=0, judged=1)
    with monkeypatch.context() as patch:
        patch.setattr("i0t.data.sample.writer.write_annotations", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            make_sample(tmp_path, size)
    assert not (tmp_path / "sample.json").exists()
    make_sample(tmp_path, size)
    checkpoint = data_dir(tmp_path) / "checkpoints/ours.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"trained for hours")
    smaller = replace(size, coco=1)
    assert make_sample(tmp_path, smaller) == tmp_path
    assert load(tmp_path / "sample.json")["size"]["coco"] == 1
    assert len(list(data_dir_sub(tmp_path).glob("PnP-VQA/lavis/coco/images/val2014/*.jpg"))) == 1
    assert checkpoint.exists(), "what training put beside the sample stays"


def test_real_data_are_never_replaced(tmp_path: Path) -> None:
    real = tmp_path / "data_dir/sharegpt4v/mine.json"
    real.parent.mkdir(parents=True)
    real.write_text("[]")
    with pytest.raises(I0TError, match="sharegpt4v"):
        make_sample(tmp_path, TINY)
    assert real.exists()


def test_two_processes_at_once(root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_sample, args=(tmp_path, TINY, 3)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(tmp_path) == contents(root)


def test_bad_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(I0TError, match="flickr"):
        SampleSize(flickr=-1)
    with pytest.raises(I0TError, match="seed"):
        make_sample(tmp_path, TINY, seed=-1)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--train=10", "--flickr=1", "--coco=1", "--nocaps=1", "--birdsnap-per-class=0", "--judged=1"]
    assert main(["--output", str(tmp_path), "--seed", "2", *numbers]) == 0
    assert str(data_dir_sub(tmp_path).resolve()) in capsys.readouterr().out
    with pytest.raises(I0TError, match="Sample size coco: -1"):
        SampleSize(coco=-1)
