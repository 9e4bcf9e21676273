"""The paper's eight data sets: who publishes them, which files are needed, and who prepares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from i0t.data.prepare.job import Job


@dataclass(frozen=True)
class Preparation:
    """How one data set is prepared.

    Attributes:
        needs: what `--from` holds, as the owners publish it.
        pages: the owners' pages.
        splits: `--split` -> (the name that evaluations know it by, the function that prepares it, by dotted path:
            importing all would take seconds). The first is the default.
    """

    needs: str
    pages: str
    splits: dict[str, tuple[str, str]]

    def dataset(self, split: str) -> str:
        """The name that evaluations know a split by."""
        return self.splits[split][0]

    def function(self, split: str) -> Callable[[Job], list[str]]:
        """Prepares a split; returns lines on what was done."""
        module, _, name = self.splits[split][1].rpartition(".")
        return getattr(import_module(f"i0t.data.prepare.{module}"), name)


PREPARATIONS = {
    "coco": Preparation(
        needs="dataset_coco.json and val2014/, captions_val2014.json to compare; for val2017 captions_val2017.json "
        "and val2017/",
        pages="cocodataset.org (2014 and 2017 val images, annotations); cs.stanford.edu/people/karpathy/deepimagesent "
        "(caption_datasets.zip)",
        splits={
            "test": ("coco", "karpathy.prepare_coco"),
            "val2017": ("coco_val2017", "coco_style.prepare_val2017"),
        },
    ),
    "flickr30k": Preparation(
        needs="dataset_flickr30k.json and flickr30k-images/",
        pages="shannon.cs.illinois.edu/DenotationGraph (images, by a form); cs.stanford.edu/people/karpathy/"
        "deepimagesent (caption_datasets.zip)",
        splits={"test": ("flickr", "karpathy.prepare_flickr"), "val": ("flickr_val", "karpathy.prepare_flickr")},
    ),
    "nocaps": Preparation(
        needs="nocaps_val_4500_captions.json and val/ with the pictures",
        pages="nocaps.org/download; the pictures are of Open Images' validation set, storage.googleapis.com/openimages",
        splits={"validation": ("nocaps", "coco_style.prepare_nocaps")},
    ),
    "sharegpt4v": Preparation(
        needs="share-captioner_coco_lcs_sam_1246k_1107.json and data/ with coco/train2017, "
        "llava/llava_pretrain/images, sam/images",
        pages="huggingface.co/datasets/Lin-Chen/ShareGPT4V; cocodataset.org (2017 train images); "
        "huggingface.co/datasets/liuhaotian/LLaVA-Pretrain; ai.meta.com/datasets/segment-anything (000000 to 000050)",
        splits={"train": ("sharegpt4v", "sharegpt4v.prepare_sharegpt4v")},
    ),
    "cifar100": Preparation(
        needs="cifar-100-python.tar.gz or cifar-100-python/; or --download",
        pages="www.cs.toronto.edu/~kriz/cifar.html",
        splits={"test": ("cifar100", "cifar.prepare_cifar100")},
    ),
    "birdsnap": Preparation(
        needs="test_images.txt and download/images/<class>/ as get_birdsnap.py makes it; or class folders, or test/ "
        "with them",
        pages="thomasberg.org/datasets/birdsnap/1.1 (birdsnap.tgz: lists and get_birdsnap.py)",
        splits={"test": ("birdsnap", "birdsnap.prepare_birdsnap")},
    ),
    "flickr8k_expert": Preparation(
        needs="flickr8k.json, or ExpertAnnotations.txt and Flickr8k.token.txt; images/ or Flicker8k_Dataset/",
        pages="github.com/aimagelab/pacscore; github.com/jmhessel/clipscore; Flickr8k's text and pictures "
        "(Hockenmaier's group, University of Illinois, by a form)",
        splits={"test": ("flickr8k_expert", "flickr8k.prepare_flickr8k")},
    ),
    "flickr8k_cf": Preparation(
        needs="crowdflower_flickr8k.json, or CrowdFlowerAnnotations.txt and Flickr8k.token.txt; images/ or "
        "Flicker8k_Dataset/",
        pages="as of flickr8k_expert",
        splits={"test": ("flickr8k_cf", "flickr8k.prepare_flickr8k")},
    ),
}


def command_for(dataset: str) -> str:
    """The command that prepares what evaluations call `dataset`.

    Example:
        >>> command_for("flickr_val")
        'bash scripts/prepare_data.sh flickr30k --split val --from FOLDER'
    """
    name, split = _owner(dataset)
    extra = "" if split == next(iter(PREPARATIONS[name].splits)) else f" --split {split}"
    return f"bash scripts/prepare_data.sh {name}{extra} --from FOLDER"


def preparation_of(dataset: str) -> Preparation:
    """How what evaluations call `dataset` is prepared."""
    return PREPARATIONS[_owner(dataset)[0]]


def _owner(dataset: str) -> tuple[str, str]:
    return next(
        (name, split)
        for name, preparation in PREPARATIONS.items()
        for split, (known_as, _) in preparation.splits.items()
        if known_as == dataset
    )
