"""Standardising shards: every format, any order, over machines, resumed, and bad rows named in errors.

Run: python -m pytest tests/test_standardize_shards.py
"""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from baselines.mind_the_gap import MindTheGap
from i0t import I0TError, Standardizer
from i0t.commands.standardize import main
from i0t.standardize import arithmetic, engines, shards
from i0t.standardize.registry import load_remover, remover_class

DIM = 6


def vectors(seed: int, n: int, kind: type = np.float32) -> np.ndarray:
    """Vectors of all lengths, off the origin."""
    rng = np.random.default_rng(seed)
    return ((rng.normal(size=(n, DIM)) + 1) * rng.uniform(0.1, 9, (n, 1))).astype(kind)


def write(path: Path, array: np.ndarray) -> None:
    """Write the array in the format of the suffix, with other content beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".safetensors":
        save_file({"vectors": array, "ids": np.arange(len(array))}, path, metadata={"made": "here"})
    else:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), DIM)
        table = pa.table(
            {"url": [f"u{row}" for row in range(len(array))], "embedding": lists, "n": np.arange(len(array))}
        )
        pq.write_table(table, path, row_group_size=4, compression="zstd")


def read(path: Path) -> np.ndarray:
    """The vectors of a file."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".safetensors":
        return load_file(path)["vectors"]
    return np.array(pq.read_table(path)["embedding"].to_pylist(), dtype=np.float32)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """clip-retrieval's folders: twelve shards per modality, fp16, and metadata."""
    root = tmp_path / "laion"
    for number in range(12):
        write(root / "img_emb" / f"img_emb_{number}.npy", vectors(number, 5 + number, np.float16))
        write(root / "text_emb" / f"text_emb_{number}.npy", -vectors(50 + number, 5 + number, np.float16))
    write(root / "metadata" / "metadata_0.parquet", vectors(0, 5))
    return root


def side(root: Path, name: str) -> np.ndarray:
    """All vectors of one side, in the shards' order."""
    return np.concatenate([np.load(root / name / f"{name}_{number}.npy") for number in range(12)])


def test_layout_in_layout_out(layout, tmp_path, capsys):
    statistics, output = tmp_path / "stats.safetensors", tmp_path / "moved"
    assert main(["fit", "--folder", str(layout), "--output", str(statistics), "--jobs", "1"]) == 0
    assert main(["apply", str(statistics), "--folder", str(layout), "--output", str(output), "--jobs", "1"]) == 0
    assert "24 shards, 252 vectors written" in capsys.readouterr().out
    whole = Standardizer().fit(side(layout, "img_emb"), side(layout, "text_emb"))
    fitted = Standardizer.load(statistics)
    assert fitted.image_mean_ == pytest.approx(whole.image_mean_, abs=1e-12)
    assert fitted.origin.shards["image"]["files"] == 12 and fitted.origin.n_texts == 126
    for name, transform in (("img_emb", whole.transform_image), ("text_emb", whole.transform_text)):
        assert side(output, name).dtype == np.float16
        assert np.array_equal(side(output, name), transform(side(layout, name)))
    copied = output / "metadata" / "metadata_0.parquet"
    assert copied.read_bytes() == (layout / "metadata" / "metadata_0.parquet").read_bytes()


@pytest.mark.parametrize("suffix", shards.SUFFIXES)
def test_formats_keep_all_but_the_vectors(tmp_path, monkeypatch, suffix):
    """Use blocks of two rows, so that no block is the whole file."""
    monkeypatch.setattr(shards, "BLOCK_BYTES", 2 * 4 * DIM)
    images, texts = vectors(1, 11), vectors(2, 9)
    source = tmp_path / "in" / f"images{suffix}"
    write(source, images)
    write(tmp_path / "in" / "texts.npy", texts)
    statistics = tmp_path / "stats.safetensors"
    paths = ["--images", str(source), "--texts", str(tmp_path / "in" / "te*.npy"), "--jobs", "1"]
    assert main(["fit", *paths, "--output", str(statistics)]) == 0
    assert main(["apply", str(statistics), *paths[:2], "--output", str(tmp_path / "out"), "--jobs", "1"]) == 0
    moved = tmp_path / "out" / "in" / source.name
    whole = Standardizer().fit(images, texts)
    assert read(moved) == pytest.approx(whole.transform_image(images), abs=1e-6)
    assert np.array_equal(read(source), images)
    if suffix == ".safetensors":
        assert np.array_equal(load_file(moved)["ids"], np.arange(11))
        with safe_open(moved, framework="numpy") as file:
            assert file.metadata() == {"made": "here"}
    if suffix == ".parquet":
        before, after = pq.ParquetFile(source), pq.ParquetFile(moved)
        assert after.schema_arrow == before.schema_arrow and after.num_row_groups == before.num_row_groups == 3
        assert after.metadata.row_group(0).column(0).compression == "ZSTD"
        assert after.read(["url", "n"]) == before.read(["url", "n"])


def test_processes_give_the_same_bits(layout, tmp_path):
    paths = [tmp_path / name for name in ("one.safetensors", "two.safetensors")]
    for path, jobs in zip(paths, ("1", "2"), strict=True):
        assert main(["fit", "--folder", str(layout), "--output", str(path), "--jobs", jobs]) == 0
    one, two = map(load_file, paths)  # their headers may be in another order
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_machines_merge_in_any_order(layout, tmp_path, capsys):
    """Means agree to 1e-12 with one fit, for any assignment of shards to machines and any order."""
    whole = Standardizer().fit(side(layout, "img_emb"), side(layout, "text_emb"))
    parts = []
    for number, pattern in enumerate(("*_[0-3].npy", "*_[4-9].npy", "*_1?.npy")):
        parts.append(str(tmp_path / f"{number}.safetensors"))
        globs = ["--images", f"{layout}/img_emb/{pattern}", "--texts", f"{layout}/text_emb/{pattern}"]
        assert main(["fit", *globs, "--output", parts[-1], "--jobs", "1"]) == 0
    merged = tmp_path / "merged.safetensors"
    for order in itertools.permutations(parts):
        assert main(["merge", *order, "--output", str(merged)]) == 0
        both = Standardizer.load(merged)
        assert both.image_mean_ == pytest.approx(whole.image_mean_, abs=1e-12)
        assert both.text_mean_ == pytest.approx(whole.text_mean_, abs=1e-12)
        assert (both.n_images_, both.n_texts_) == (126, 126)
    assert main(["merge", str(merged), parts[1], "--output", str(tmp_path / "twice")]) == 2
    assert "count twice" in capsys.readouterr().err and not (tmp_path / "twice").exists()


def test_machines_may_call_their_shards_alike(tmp_path, capsys):
    """clip-retrieval numbers shards from 0 on every machine, and full ones are of one size."""
    parts = []
    for part in range(2):
        for number in range(2):
            write(tmp_path / f"{part}" / "img_emb" / f"img_emb_{number}.npy", vectors(10 * part + number, 8))
            write(tmp_path / f"{part}" / "text_emb" / f"text_emb_{number}.npy", -vectors(50 + 10 * part + number, 8))
        parts.append(str(tmp_path / f"{part}.safetensors"))
        assert main(["fit", "--folder", str(tmp_path / f"{part}"), "--output", parts[-1], "--jobs", "1"]) == 0
    assert main(["merge", *parts, "--output", str(tmp_path / "both.safetensors")]) == 0
    assert Standardizer.load(tmp_path / "both.safetensors").n_images_ == 32
    # The same vectors under other names are still told.
    (tmp_path / "1").rename(tmp_path / "renamed")
    for number, name in enumerate("ba"):
        folder = tmp_path / "renamed" / "img_emb"
        (folder / f"img_emb_{number}.npy").rename(folder / f"{name}.npy")
    again = str(tmp_path / "again.safetensors")
    assert main(["fit", "--folder", str(tmp_path / "renamed"), "--output", again, "--jobs", "1"]) == 0
    capsys.readouterr()
    assert main(["merge", again, parts[1], "--output", str(tmp_path / "twice")]) == 2
    assert "1.safetensors: the same image vectors are in" in capsys.readouterr().err


def test_block_sums_do_not_depend_on_blocks_or_order(monkeypatch):
    """Float64 throughout: 1e-12 of the mean in any order and block size, and against the plain formula."""
    images = vectors(3, 20_000)
    exact = images.astype(np.float64)
    exact = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).mean(axis=0)
    means = [arithmetic.unit_sum(images, "x", rows) / len(images) for rows in (1000, 8192, 30_000)]
    means.append(arithmetic.unit_sum(images[::-1], "x", 8192) / len(images))
    monkeypatch.setattr(arithmetic, "CACHE_FLOATS", 7 * DIM)
    means.append(arithmetic.unit_sum(images, "x", 8192) / len(images))
    for mean in means:
        assert mean == pytest.approx(exact, abs=1e-13)


def test_apply_is_taken_up_where_it_stopped(layout, tmp_path, capsys):
    statistics, output = tmp_path / "stats.safetensors", tmp_path / "moved"
    apply = ["apply", str(statistics), "--folder", str(layout), "--output", str(output), "--jobs", "1"]
    main(["fit", "--folder", str(layout), "--output", str(statistics), "--jobs", "1"])
    bad = layout / "text_emb" / "text_emb_2.npy"
    kept = np.load(bad)
    spoiled = kept.copy()
    spoiled[3] = np.nan
    np.save(bad, spoiled)
    assert main(apply) == 2
    assert "text_emb_2.npy: text_features: row 3 holds NaN" in capsys.readouterr().err
    assert not (output / "text_emb" / "text_emb_2.npy").exists()
    np.save(bad, kept)
    changed = output / "img_emb" / "img_emb_0.npy"
    first = changed.stat().st_mtime_ns, (output / "img_emb" / "img_emb_1.npy").stat().st_mtime_ns
    changed.write_bytes(changed.read_bytes()[:-2])  # cut off by a full disk, say
    assert main(apply) == 0
    assert "11 shards, 120 vectors written" in capsys.readouterr().out  # 10 texts, and the damaged one
    assert (output / "img_emb" / "img_emb_1.npy").stat().st_mtime_ns == first[1]
    assert len(np.load(changed)) == 5 and changed.stat().st_mtime_ns != first[0]
    assert main(apply) == 0
    assert "0 shards, 0 vectors" in capsys.readouterr().out
    half = ["--images", f"{layout}/img_emb/*_[0-4].npy", "--texts", f"{layout}/text_emb/*_[0-4].npy"]
    main(["fit", *half, "--output", str(statistics), "--jobs", "1"])
    assert main(apply) == 0
    assert "24 shards, 252 vectors" in capsys.readouterr().out  # other statistics: all again


def test_rows_are_named_by_shard_and_its_own_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shards, "BLOCK_BYTES", 4 * 4 * DIM)
    write(tmp_path / "texts.npy", vectors(5, 3))
    for suffix in shards.SUFFIXES:
        images = vectors(4, 11)
        images[9] = 0
        write(tmp_path / f"bad{suffix}", images)
        sides = ["--images", str(tmp_path / f"bad{suffix}"), "--texts", str(tmp_path / "texts.npy")]
        assert main(["fit", *sides, "--output", str(tmp_path / "s"), "--jobs", "1"]) == 2
        assert f"bad{suffix}: image_features: row 9 has zero length" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --images"),
        (["--images", "nothing/*.npy"], "no .npy, .safetensors, .parquet file matches"),
        (["--folder", "."], "neither img_emb nor text_emb"),
        (["--images", "x", "--remover", "nope"], "no such gap remover"),
        (["--images", "x", "--remover", "pathlib:Path"], "not a gap remover"),
        (["--images", "x", "--set", "shift=1"], "--set shift: i0t_post has no such parameter; i0t_post has none."),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *arguments, "--output", "s"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_cannot_be_saved_is_said_before_reading(layout, tmp_path, monkeypatch, capsys):
    read_anything = []
    monkeypatch.setattr(shards.Shard, "blocks", lambda shard: read_anything.append(shard) or iter(()))
    images, output = ["--images", f"{layout}/img_emb"], ["--output", str(tmp_path / "s.safetensors")]
    assert main(["fit", *images, *output, "--jobs", "1"]) == 2
    assert "no shards of texts" in (error := capsys.readouterr().err) and "Give --texts" in error
    assert main(["fit", "--texts", f"{layout}/text_emb", *output, "--jobs", "1"]) == 2
    assert "no shards of images" in (error := capsys.readouterr().err) and "Give --images" in error
    assert main(["fit", "--folder", str(layout), "--output", str(tmp_path)]) == 2
    assert "is a folder. Give --output the name of a file" in capsys.readouterr().err
    own = str(next((layout / "img_emb").iterdir()))
    assert main(["fit", "--folder", str(layout), "--output", own]) == 2
    assert main(["merge", "a.safetensors", own, "--output", own]) == 2
    assert capsys.readouterr().err.count("is an input, and --output would overwrite it") == 2
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main(["fit", "--folder", str(layout), "--output", str(tmp_path / "closed" / "s.safetensors")]) == 2
    assert "closed: the output folder cannot be written" in capsys.readouterr().err
    assert not read_anything


def test_hidden_files_of_a_folder_are_no_shards(layout):
    for name in (".img_emb_0.npy.abc.npy", "._img_emb_1.npy"):
        (layout / "img_emb" / name).write_bytes(b"half written")
    assert len(shards.find_shards([f"{layout}/img_emb"])) == 12
    assert len(shards.find_shards([f"{layout}/img_emb/*.npy"])) == 12


@pytest.mark.parametrize("suffix", shards.SUFFIXES)
def test_apply_names_a_truncated_shard(tmp_path, capsys, suffix):
    source, texts = tmp_path / f"shard{suffix}", tmp_path / "texts.npy"
    write(source, vectors(1, 300))
    write(texts, vectors(2, 5))
    fit = ["fit", "--images", str(source), "--texts", str(texts), "--output", str(tmp_path / "s"), "--jobs", "1"]
    assert main(fit) == 0
    source.write_bytes(source.read_bytes()[:-50])
    apply = ["apply", str(tmp_path / "s"), "--images", str(source), "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(apply) == 2
    error = capsys.readouterr().err
    assert re.search(rf"shard{suffix}: (cannot be read|not a \.npy array)", error) and error.count("\n") == 1
    assert not list((tmp_path / "out").rglob(f"*{suffix}"))


@pytest.mark.parametrize("suffix", shards.SUFFIXES)
def test_damaged_or_foreign_shards_are_refused(tmp_path, suffix):
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(b"not what it says it is")
    with pytest.raises(I0TError, match=rf"shard{suffix}: (cannot be read|not a \.npy array)"):
        list(shards.Shard(path).blocks())


def test_a_column_or_tensor_must_be_told_apart(tmp_path):
    save_file({"a": vectors(5, 3), "b": vectors(6, 3)}, tmp_path / "two.safetensors")
    with pytest.raises(I0TError, match="Name it with --key"):
        list(shards.Shard(tmp_path / "two.safetensors").blocks())
    ((start, block),) = shards.Shard(tmp_path / "two.safetensors", "b").blocks()
    assert start == 0 and np.array_equal(block, vectors(6, 3))
    pq.write_table(pa.table({"ragged": [[1.0, 2.0], [1.0], None]}), tmp_path / "ragged.parquet")
    with pytest.raises(I0TError, match="row 1 holds no vector of 2 numbers"):
        list(shards.Shard(tmp_path / "ragged.parquet").blocks())


def test_other_removers_by_dotted_path(layout, tmp_path):
    path, dotted = tmp_path / "stats.safetensors", "baselines.mind_the_gap:MindTheGap"
    fit = ["fit", "--folder", str(layout), "--output", str(path), "--jobs", "2"]
    assert main([*fit, "--remover", dotted, "--set", "shift_lambda=0.5"]) == 0
    loaded = load_remover(path, dotted)
    assert isinstance(loaded, MindTheGap) and loaded.parameters() == {"shift_lambda": 0.5}
    assert load_remover(path).fingerprint == loaded.fingerprint  # its file names it as the registry does
    assert remover_class("i0t_post") is Standardizer


def test_output_never_replaces_its_source(layout, tmp_path, capsys):
    statistics = tmp_path / "stats.safetensors"
    main(["fit", "--folder", str(layout), "--output", str(statistics), "--jobs", "1"])
    before = np.load(layout / "img_emb" / "img_emb_0.npy")
    assert main(["apply", str(statistics), "--folder", str(layout), "--output", str(layout)]) == 2
    assert "overwrite its own source" in capsys.readouterr().err
    assert np.array_equal(np.load(layout / "img_emb" / "img_emb_0.npy"), before)


def test_workers_are_waited_for_unless_one_fails():
    """Without waiting, the interpreter's exit may find the pipes of the workers closed."""

    class Pool(ThreadPoolExecutor):
        ended: list[bool] = []

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            self.ended.append(cancel_futures)
            super().shutdown(wait, cancel_futures=cancel_futures)

    with Pool(2) as pool:
        assert list(engines._in_processes(pool, pow, 2, [1, 2, 3], 2)) == [2, 4, 8]
    assert pool.ended == [False]
    with pytest.raises(TypeError), Pool(2) as pool:
        list(engines._in_processes(pool, pow, 2, [1, "no number", 3], 2))
    assert pool.ended == [False, True, False]


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_a_number_of_processes_is_positive(jobs, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--images", "x", "--output", "s", f"--jobs={jobs}"])
    assert f"argument --jobs: {jobs} is not a positive number" in capsys.readouterr().err
