"""The table of data sets: the known facts of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import Any, Literal, NamedTuple

from i0t.scripts import as_called_here

Kind = Literal["captions", "classes", "ratings", "long captions"]


class Count(NamedTuple):
    """A number, or a range if the owners state it only roughly."""

    least: int
    most: int | None = None


@dataclass(frozen=True)
class Preparation:
    """How `scripts/prepare_data.sh` makes a data set from its owners' files.

    Attributes:
        name: name in that program; two data sets may share one.
        split: value of `--split`; the first entry of a name is the default.
        function: "module:function" below `i0t.data.prepare`.
        needs: files and folders that `--from` must contain.
        pages: the owners' web pages.
    """

    name: str
    split: str
    function: str
    needs: str
    pages: str

    def load(self) -> Callable[[Any], list[str]]:
        """Import the function, which takes a `prepare.job.Job` and returns lines that say what was done."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(f"i0t.data.prepare.{module}"), name)

    @property
    def command(self) -> str:
        """The command line."""
        ways = [entry.preparation for entry in ENTRIES if entry.preparation and entry.preparation.name == self.name]
        split = "" if self.split == ways[0].split else f" --split {self.split}"
        return as_called_here(f"bash scripts/prepare_data.sh {self.name}{split} --from FOLDER")


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        name: value of `--dataset`.
        kind: kind of its texts.
        reader: "module:function" of (entry, roots) that returns a `Dataset`; imported when needed.
        split: part of the owners' data, as in records.
        root: "main" (`<data_dir>`), "sub" (`<data_dir_sub>`) or "cache" (`~/.cache`).
        file: list or folder to read, below the root.
        images: number of images of a complete copy.
        texts: number of captions, ratings or classes.
        preparation: how to make it from its owners' files, if `scripts/prepare_data.sh` can.
        pictures: folder of its images, below the root; if empty, `file` is that folder.
        presence: file below the root that shows whether it is there, if not `file`.
        sample: field of `SampleSize` that sets its size in a built-in sample, if any, with the images and texts per
            unit of that field (for classes: the number of classes).
        texts_per_image: captions to count per image at most: some COCO images have six or seven, five are used.
        known_images: a smaller number of images that is accepted, because public copies have no more ...
        why: ... and the reason.
        note: what is not known about the counts.
        optional: whether it is not one of the paper's eight; then it is shown only if present.
        scale: least and largest rating.
    """

    name: str
    kind: Kind
    reader: str
    split: str
    root: Literal["main", "sub", "cache"]
    file: str
    images: Count
    texts: Count
    preparation: Preparation | None = None
    pictures: str = ""
    presence: str = ""
    sample: tuple[str, int, int] | None = None
    texts_per_image: int | None = None
    known_images: Count | None = None
    why: str = ""
    note: str = ""
    optional: bool = False
    scale: tuple[float, float] = (-inf, inf)


_KARPATHY = "cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip)"
_COCO_PAGES = f"cocodataset.org (2014 and 2017 val images, annotations); {_KARPATHY}"
_FLICKR = (
    "dataset_flickr30k.json and flickr30k-images/",
    (f"shannon.cs.illinois.edu/DenotationGraph (images, by a form); {_KARPATHY}"),
)
_FLICKR_IMAGES = "PnP-VQA/lavis/flickr30k/images/flickr30k-images"
_GOLD = "i0t.data.captions:read_gold"
_ROUGHLY_1246K = Count(1_246_000, 1_246_999)

ENTRIES = (
    DatasetEntry(
        name="coco",
        kind="captions",
        reader=_GOLD,
        split="as COCO_GOLD.json lists",
        root="sub",
        file="Evaluation/COCO_Captions/NewCaptions/COCO_GOLD.json",
        images=Count(5000),
        texts=Count(25_000),
        preparation=Preparation(
            "coco",
            "test",
            "caption_lists:prepare_coco",
            "dataset_coco.json and val2014/, captions_val2014.json to compare",
            _COCO_PAGES,
        ),
        pictures="PnP-VQA/lavis/coco/images/val2014",
        sample=("coco", 1, 5),
        texts_per_image=5,
    ),
    DatasetEntry(
        name="flickr",
        kind="captions",
        reader=_GOLD,
        split="as Flickr_GOLD.json lists (the paper: Karpathy test, 1 000 images)",
        root="sub",
        file="Evaluation/Flickr_Captions/NewCaptions/Flickr_GOLD.json",
        images=Count(1000),
        texts=Count(5000),
        preparation=Preparation("flickr30k", "test", "caption_lists:prepare_flickr", *_FLICKR),
        pictures=_FLICKR_IMAGES,
        sample=("flickr", 1, 5),
        texts_per_image=5,
    ),
    DatasetEntry(
        name="nocaps",
        kind="captions",
        reader="i0t.data.captions:read_nocaps",
        split="validation",
        root="sub",
        file="Evaluation/Nocaps_Captions/NewCaptions/NoCaps_GOLD.json",
        images=Count(4500),
        texts=Count(45_000),
        preparation=Preparation(
            "nocaps",
            "validation",
            "caption_lists:prepare_nocaps",
            "nocaps_val_4500_captions.json and val/ with the images",
            "nocaps.org/download; images of Open Images' validation set, storage.googleapis.com/openimages",
        ),
        pictures="PnP-VQA/lavis/nocaps/images/val",
        sample=("nocaps", 1, 10),
        texts_per_image=10,
    ),
    DatasetEntry(
        name="coco_val2017",
        kind="captions",
        reader=_GOLD,
        split="as COCO_VAL2017.json lists (COCO val2017, 5 000 images)",
        root="sub",
        file="Evaluation/COCO_Captions/NewCaptions/COCO_VAL2017.json",
        images=Count(5000),
        texts=Count(25_000),
        preparation=Preparation(
            "coco", "val2017", "caption_lists:prepare_val2017", "captions_val2017.json and val2017/", _COCO_PAGES
        ),
        pictures="PnP-VQA/lavis/coco/images/val2017",
        texts_per_image=5,
        optional=True,
    ),
    DatasetEntry(
        name="flickr_val",
        kind="captions",
        reader=_GOLD,
        split="as Flickr_VAL.json lists (Karpathy val, 1 014 images)",
        root="sub",
        file="Evaluation/Flickr_Captions/NewCaptions/Flickr_VAL.json",
        images=Count(1014),
        texts=Count(5070),
        preparation=Preparation("flickr30k", "val", "caption_lists:prepare_flickr", *_FLICKR),
        pictures=_FLICKR_IMAGES,
        texts_per_image=5,
        optional=True,
    ),
    DatasetEntry(
        name="cifar100",
        kind="classes",
        reader="i0t.data.class_sets:read_cifar100",
        split="test",
        root="cache",
        file="cifar-100-python",
        images=Count(10_000),
        texts=Count(100),
        preparation=Preparation(
            "cifar100",
            "test",
            "classes:prepare_cifar100",
            "cifar-100-python.tar.gz or cifar-100-python/; or --download",
            "www.cs.toronto.edu/~kriz/cifar.html",
        ),
        presence="cifar-100-python/test",
    ),
    DatasetEntry(
        name="birdsnap",
        kind="classes",
        reader="i0t.data.class_sets:read_class_folders",
        split="test",
        root="main",
        file="zeroshot_datasets/birdsnap/test",
        images=Count(2443),
        texts=Count(500),
        preparation=Preparation(
            "birdsnap",
            "test",
            "classes:prepare_birdsnap",
            "test_images.txt and download/images/<class>/ as get_birdsnap.py makes it; or class folders, or test/ with "
            "them",
            "thomasberg.org/datasets/birdsnap/1.1 (birdsnap.tgz: lists and get_birdsnap.py)",
        ),
        sample=("birdsnap_per_class", 48, 48),
        known_images=Count(1855, 1857),
        why="of the 2443 test pictures, public copies have 1855 to 1857: the others are gone from Flickr",
    ),
    DatasetEntry(
        name="flickr8k_expert",
        kind="ratings",
        reader="i0t.data.ratings:read_ratings",
        split="all rated captions",
        root="main",
        file="pacscore_datasets/flickr8k/flickr8k.json",
        images=Count(1000),
        texts=Count(16_992),  # 5822 rows, less 158 whose candidate is among the references, times three
        preparation=Preparation(
            "flickr8k_expert",
            "test",
            "rating_lists:prepare_flickr8k",
            "flickr8k.json, or ExpertAnnotations.txt and Flickr8k.token.txt; images/ or Flicker8k_Dataset/",
            "github.com/aimagelab/pacscore; github.com/jmhessel/clipscore; Flickr8k's text and images "
            "(Hockenmaier's group, University of Illinois, by a form)",
        ),
        pictures="pacscore_datasets/flickr8k/images",
        sample=("judged", 1, 18),  # six candidates per image, three ratings of each
        scale=(1, 4),
    ),
    DatasetEntry(
        name="flickr8k_cf",
        kind="ratings",
        reader="i0t.data.ratings:read_ratings",
        split="all rated captions",
        root="main",
        file="pacscore_datasets/flickr8k/crowdflower_flickr8k.json",
        images=Count(1000),
        texts=Count(47_500, 48_499),
        preparation=Preparation(
            "flickr8k_cf",
            "test",
            "rating_lists:prepare_flickr8k",
            "crowdflower_flickr8k.json, or CrowdFlowerAnnotations.txt and Flickr8k.token.txt; images/ or "
            "Flicker8k_Dataset/",
            "as for flickr8k_expert",
        ),
        pictures="pacscore_datasets/flickr8k/images",
        sample=("judged", 1, 8),
        scale=(0, 1),
        note="the owners say 48 K (about 47 830); the exact number could not be looked up",
    ),
    DatasetEntry(
        name="sharegpt4v",
        kind="long captions",
        reader="i0t.data.sharegpt4v:read_all_records",
        split="all records",
        root="main",
        file="sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json",
        images=_ROUGHLY_1246K,
        texts=_ROUGHLY_1246K,
        preparation=Preparation(
            "sharegpt4v",
            "train",
            "caption_lists:prepare_sharegpt4v",
            "share-captioner_coco_lcs_sam_1246k_1107.json and data/ with coco/train2017, llava/llava_pretrain/images, "
            "sam/images",
            "huggingface.co/datasets/Lin-Chen/ShareGPT4V; cocodataset.org (2017 train images); huggingface.co/datasets/"
            "liuhaotian/LLaVA-Pretrain; ai.meta.com/datasets/segment-anything (000000 to 000050)",
        ),
        pictures="sharegpt4v/data",
        sample=("train", 1, 1),
        note="the owners say 1246 K; the exact number could not be looked up",
    ),
)
