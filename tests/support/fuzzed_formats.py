"""Every format that a user can hand in: a valid file of each, how to damage it, and the reader that programs use."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mutations import array_damaged, bytes_damaged, json_file_damaged, tensors_damaged
from owners_files import coco_folder, flickr8k_texts, flickr_folder
from PIL import Image
from safetensors.numpy import save_file
from small_clip import small_clip

from i0t import Embeddings, load_embeddings, load_encoder
from i0t.data.class_sets import read_templates
from i0t.data.datasets import DATASETS, load_dataset
from i0t.data.items import open_image
from i0t.data.prepare.__main__ import WAYS
from i0t.data.prepare.job import Job
from i0t.data.sharegpt4v import load_sharegpt4v
from i0t.encoders.checkpoint import save_checkpoint
from i0t.paths import Roots, configured_roots
from i0t.results.comparison import read_record
from i0t.results.tables import dataset_table, joined_table
from i0t.scoring.pairs import read_pairs
from i0t.search import ScoreStandardizer
from i0t.search.judged_layout import layout_of_qrels
from i0t.search.qrels import read_placed
from i0t.search.scores import FORMS
from i0t.search.transform import VectorTransform
from i0t.standardize.engines import Engine
from i0t.standardize.registry import load_remover
from i0t.standardize.remover import Modality
from i0t.standardize.second_moments import Whitening
from i0t.standardize.shard_processes import LEDGER, _Apply, apply_shards
from i0t.standardize.shards import Shard
from i0t.training.recipe import load_recipe
from i0t.training.shard_batches import ShardPairs

PICTURES = ("png", "jpg", "gif", "tiff", "bmp", "webp", "ppm")


@dataclass(frozen=True)
class Format:
    """One format: `path` is the file to damage below the folder `root`; `read` calls the real reader."""

    path: Callable[[Path], Path]
    read: Callable[[Path], Any]
    damage: Callable[[bytes, Random], bytes] | None = bytes_damaged
    damage_file: Callable[[Path, Random], None] | None = None

    def spoil(self, path: Path, rng: Random) -> None:
        """Damage the file in place."""
        if self.damage_file is not None:
            self.damage_file(path, rng)
        else:
            path.write_bytes(self.damage(path.read_bytes(), rng))


def vectors() -> Embeddings:
    """Twelve pairs in four dimensions."""
    rng = np.random.default_rng(0)
    names = [f"{row}.jpg" for row in range(12)]
    texts = [f"text {row}" for row in range(12)]
    metadata = {"model": "m", "dataset": "d", "text_ids": [f"t{row}" for row in range(12)], "n_images": 12}
    return Embeddings(
        rng.normal(1, 1, (12, 4)), rng.normal(-1, 1, (12, 4)), np.arange(12), names, texts, metadata=metadata
    )


def make(root: Path, sample: Roots) -> None:
    """Write one valid file of each format below `root`."""
    for part, folder in (("main", sample.main), ("sub", sample.sub)):
        shutil.copytree(folder, root / part, symlinks=True)
    embeddings = vectors()
    embeddings.save(root / "e.safetensors")
    np.save(root / "images.npy", embeddings.image_features)
    np.save(root / "texts.npy", embeddings.text_features)
    np.savez(root / "both.npz", embeddings.image_features)
    remover = Whitening().fit_embeddings(embeddings)
    remover.save(root / "means.safetensors")
    VectorTransform.of(remover).save(root / "moves.safetensors")
    for form in FORMS:
        ScoreStandardizer(Whitening(), form).fit_embeddings(embeddings).save(root / f"scores-{form}.safetensors")
    save_file({"x": embeddings.image_features}, root / "v.safetensors")
    save_checkpoint(root / "model.safetensors", small_clip(), {"recipe": {"name": "x"}, "step": 3})
    (root / "pairs.csv").write_text('image,caption,references\na.jpg,"a dog, asleep",\nb.jpg,two,"[""a"", ""b""]"\n')
    (root / "pairs.json").write_text('[{"image": "a.jpg", "caption": "x"}, {"caption": "y", "other_caption": "z"}]')
    judged = [(f"{row}.jpg", f"t{row + 1}", 1 + row % 2) for row in range(5)]
    (root / "q.json").write_text(json.dumps({query: {document: grade} for query, document, grade in judged}))
    entries = [dict(zip(("query_id", "doc_id", "relevance"), row)) for row in judged]
    (root / "list.json").write_text(json.dumps(entries))
    (root / "q.trec").write_text("".join(f"{query} 0 {document} {grade}\n" for query, document, grade in judged))
    (root / "q.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{one}\t{two}\t{grade}\n" for one, two, grade in judged)
    )
    pq.write_table(pa.Table.from_pylist(entries), root / "q.parquet")
    pq.write_table(pa.table({"v": embeddings.image_features.tolist()}), root / "v.parquet")
    (root / "t.txt").write_text("# prompts\na photo of a {}.\na {} in the wild.\n")
    model = {"name": "m", "fingerprint": "f"}
    record = {
        **{"task": "retrieval", "dataset": "flickr", "metrics": {"i2t_r1": 1.5, "t2i_r1": None}},
        **{"gap": {"centroid_distance": 0.5}, "protocol": {"remove_gap": "i0t_post", "fit_overlap": {"x": 0.5}}},
        **{"config": {"model": model}, "data": {"sha256": "0", "completeness": {"state": "complete"}}},
    }
    (root / "record.json").write_text(json.dumps(record))
    for suffix in ("png", "jpg", "gif", "tiff", "bmp", "webp", "ppm"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(
            root / f"p.{suffix}"
        )
    for number in range(2):
        with tarfile.open(root / f"{number}.tar", "w") as tar:
            for row in range(4):
                for suffix, data in (("png", (root / "p.png").read_bytes()), ("txt", b"a dog")):
                    info = tarfile.TarInfo(f"{row}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    flickr8k_texts(root / "owners")
    flickr_folder(root / "owners", {"1.jpg": "test", "2.jpg": "val"})
    coco_folder(root / "owners", {1: 5, 2: 6}, {3: "train"})
    apply_shards(remover, _shards(root), root, Engine())
    configs = root / "configs"
    (configs / "recipes").mkdir(parents=True)
    (configs / "models").mkdir()
    for place in ("recipes/lccom.yaml", "models/tiny.yaml"):
        shutil.copy(f"configs/{place}", configs / place)
    (configs / "root.txt").write_text(f"# data\n{root / 'main'}\n")


def _npy_damaged(path: Path, rng: Random) -> None:
    if rng.random() < 0.5:
        path.write_bytes(bytes_damaged(path.read_bytes(), rng))
    elif rng.random() < 0.5:
        np.save(path, array_damaged(np.load(path), rng))
    else:  # the header alone
        content = path.read_bytes()
        path.write_bytes(bytes_damaged(content[:128], rng) + content[128:])


def _table(root: Path) -> str:
    record = read_record(root / "record.json")
    return dataset_table([record]) + joined_table([record])


def _pixels(name: str) -> Format:
    return Format(lambda root: root / name, lambda root: open_image(root / name))


def _qrels(name: str, damage: Any = bytes_damaged) -> Format:
    return Format(lambda root: root / name, lambda root: _judged(root / name), damage)


def _judged(path: Path) -> Any:
    judgments, places = read_placed(path)
    return layout_of_qrels(judgments, vectors(), vectors(), places)


def _blocks(name: str, damage: Any) -> Format:
    return Format(lambda root: root / name, lambda root: list(Shard(root / name).blocks()), damage_file=damage)


def _list_of(dataset: str) -> Format:
    entry = DATASETS[dataset]
    roots = lambda root: Roots(root / "main", root / "sub", is_sample=True)  # noqa: E731
    return Format(
        lambda root: roots(root).below(entry.root, entry.file),
        lambda root: load_dataset(dataset, roots(root), True).items(),
        json_file_damaged,
    )


def _of_owners(file: str, dataset: str) -> Format:
    def prepared(root: Path) -> list[str]:
        roots = Roots(root / "prepared", root / "prepared")
        job = Job(dataset, root / "owners", roots, overwrite=True, allow_partial=True)
        return WAYS[dataset].load()(job)

    return Format(
        lambda root: root / "owners" / file, prepared, json_file_damaged if file.endswith("json") else bytes_damaged
    )


def _shards(root: Path) -> list[tuple[tuple[Modality, Shard], Path]]:
    return [(("image", Shard(root / "images.npy")), root / "moved" / "images.npy")]


def _moved(root: Path) -> Any:
    return load_remover(root / "means.safetensors").transform_image(np.eye(4))


def _scores(form: str) -> Format:
    name = f"scores-{form}.safetensors"

    def read(root: Path) -> Any:
        return ScoreStandardizer.load(root / name).scores(np.eye(4), "text", np.eye(4), "image")

    return Format(lambda root: root / name, read, damage_file=tensors_damaged)


def _by_bytes(path: Path, rng: Random) -> None:
    path.write_bytes(bytes_damaged(path.read_bytes(), rng))


def _noted(root: Path) -> list[bool]:
    return _Apply(load_remover(root / "means.safetensors"), root).done(_shards(root))


FORMATS = {
    "karpathy's coco": _of_owners("dataset_coco.json", "coco"),
    "karpathy's flickr30k": _of_owners("dataset_flickr30k.json", "flickr"),
    "coco's captions": _of_owners("annotations/captions_val2014.json", "coco"),
    "flickr8k texts": _of_owners("Flickr8k.token.txt", "flickr8k_expert"),
    "expert ratings": _of_owners("ExpertAnnotations.txt", "flickr8k_expert"),
    "crowd ratings": _of_owners("CrowdFlowerAnnotations.txt", "flickr8k_cf"),
    "note of a shard": Format(lambda root: root / LEDGER / "moved-images.npy.json", _noted, json_file_damaged),
    "coco list": _list_of("coco"),
    "flickr list": _list_of("flickr"),
    "nocaps list": _list_of("nocaps"),
    "ratings": _list_of("flickr8k_expert"),
    "sharegpt4v": Format(
        lambda root: root / "main" / DATASETS["sharegpt4v"].file,
        lambda root: list(load_sharegpt4v(root / "main", "train", "all", True).captions),
        json_file_damaged,
    ),
    "pairs csv": Format(lambda root: root / "pairs.csv", lambda root: read_pairs(root / "pairs.csv")),
    "pairs json": Format(
        lambda root: root / "pairs.json", lambda root: read_pairs(root / "pairs.json"), json_file_damaged
    ),
    "qrels json": _qrels("q.json", json_file_damaged),
    "qrels list": _qrels("list.json", json_file_damaged),
    "qrels trec": _qrels("q.trec"),
    "qrels tsv": _qrels("q.tsv"),
    "qrels parquet": _qrels("q.parquet"),
    "record": Format(lambda root: root / "record.json", _table, json_file_damaged),
    "templates": Format(lambda root: root / "t.txt", lambda root: read_templates(root / "t.txt")),
    "recipe": Format(lambda root: root / "configs/recipes/lccom.yaml", lambda root: load_recipe("lccom")),
    "model spec": Format(lambda root: root / "configs/models/tiny.yaml", lambda root: load_encoder("tiny")),
    "path file": Format(lambda root: root / "configs/root.txt", lambda root: configured_roots()),
    "embeddings": Format(
        lambda root: root / "e.safetensors",
        lambda root: load_embeddings(root / "e.safetensors").pairs,
        damage_file=tensors_damaged,
    ),
    "npy": Format(
        lambda root: root / "images.npy",
        lambda root: load_embeddings([root / "images.npy", root / "texts.npy"]),
        damage_file=_npy_damaged,
    ),
    "npz": Format(lambda root: root / "both.npz", lambda root: load_embeddings(root / "both.npz")),
    "means": Format(lambda root: root / "means.safetensors", _moved, damage_file=tensors_damaged),
    "transform": Format(
        lambda root: root / "moves.safetensors",
        lambda root: VectorTransform.load(root / "moves.safetensors")(np.eye(4), "image"),
        damage_file=tensors_damaged,
    ),
    "checkpoint": Format(
        lambda root: root / "model.safetensors",
        lambda root: load_encoder(root / "model.safetensors"),
        damage_file=tensors_damaged,
    ),
    "shard npy": _blocks("images.npy", _npy_damaged),
    **{f"scores {form}": _scores(form) for form in FORMS},
    "shard safetensors": _blocks("v.safetensors", tensors_damaged),
    "shard parquet": _blocks("v.parquet", _by_bytes),
    "tar": Format(
        lambda root: root / "0.tar",
        lambda root: ShardPairs(str(root / "{0..1}.tar"), 4).validation(root / "unpacked"),
    ),
    **{f"picture {suffix}": _pixels(f"p.{suffix}") for suffix in PICTURES},
}
