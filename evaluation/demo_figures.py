"""The figures of the demo's table, each with its 95 % interval, from embeddings after any gap removal.

- `centroid_distance`, `i2t_r1`, `t2i_r1`, `mean_r1`: retrieval with the first caption of each image, as in the paper;
  R@1 among 1 000 pairs, as there, averaged over every 1 000 of the test set (as COCO's 5 x 1K); `..._all`: among all.
- `mixed_ndcg`: NDCG@10 of search in one index of images and captions (`i0t.search.either_kind`): it has half of the
  images, and one caption of each other image; another caption asks, and the image where a caption stands. So the
  relevant item may be of the query's own kind or of the other (`ndcg_own`, `ndcg_other`: the two parts).
- `one_scale`: in how many of 100 draws a matched pair's cosine exceeds that of two random images, or two random
  captions (the mean of both).
- `accuracy`, `expert_tau_c`, `cf_tau_b`: as of the evaluation programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.correlation import Correlation, RatedRows
from evaluation.estimates import Estimate, estimate, mean_estimate
from i0t.embeddings import Embeddings
from i0t.gap import centroid_distance
from i0t.metrics import classification_metrics, correlation_metrics
from i0t.metrics.one_scale import one_scale_shares
from i0t.metrics.retrieval import tied_ranks_both_directions
from i0t.search import either_kind
from i0t.search.methods import Method, MixedTask, scores_of
from i0t.search.rivals import RULES
from i0t.search.scores import FORMS, ScoreStandardizer
from i0t.standardize import Standardizer

GALLERY = 1_000  # pairs among which R@1 searches: the number of the paper's Flickr30k test set


def retrieval_figures(embeddings: Embeddings, dataset: Any = None) -> dict[str, Estimate]:
    """Centroid distance, R@1 both ways and their mean, and the share on one scale, of images with one caption each."""
    rows = embeddings.pairs
    images, texts = embeddings.image_features[rows[:, 0]], embeddings.text_features[rows[:, 1]]
    shares = one_scale_shares(images, texts)
    distance = estimate(lambda kept: centroid_distance(images[kept], texts[kept]), np.arange(len(rows)))
    return {
        "centroid_distance": distance,
        **_recalls(images, texts, GALLERY),
        **{f"{name}_all": found for name, found in _recalls(images, texts, len(rows)).items()},
        "one_scale": mean_estimate(50.0 * (shares["above_picture"] + shares["above_text"])),
    }


def _recalls(images: np.ndarray, texts: np.ndarray, gallery: int) -> dict[str, Estimate]:
    """R@1 both ways and their mean, among every `gallery` pairs in turn (more, if the number does not divide)."""
    hits = np.zeros((2, len(images)))
    for some in np.array_split(np.arange(len(images)), max(1, len(images) // gallery)):
        ranks = tied_ranks_both_directions(images[some], texts[some], np.arange(len(some)))
        hits[:, some] = [100.0 * direction.hit_probability(1) for direction in ranks]
    found = {"i2t_r1": hits[0], "t2i_r1": hits[1], "mean_r1": hits.mean(axis=0)}
    return {name: mean_estimate(values) for name, values in found.items()}


def mixed_figures(embeddings: Embeddings, dataset: Any = None) -> dict[str, Estimate]:
    """NDCG@10 of mixed search in one index, of images with several captions."""
    return _mixed_ndcg(_mixed_task(embeddings), None)


def mixed_by_method(embeddings: Embeddings) -> dict[str, dict[str, Estimate]]:
    """`mixed_figures` by method: of embeddings as they are, rivals that search by modality, and standardising.

    What standardises is fitted to the searched items, without their pairs.
    """
    task = _mixed_task(embeddings)
    methods: dict[str, Method] = {"raw": None, **{rule: rule for rule in RULES}}
    methods["i0t_post"] = Standardizer().fit_embeddings(embeddings)
    for remover in (None, Standardizer()):
        for form in FORMS:
            fitted = ScoreStandardizer(remover, form).fit_embeddings(embeddings)
            methods[scores_of(remover.name if remover else "", form)] = fitted
    return {name: _mixed_ndcg(task, method) for name, method in methods.items()}


def _mixed_task(embeddings: Embeddings) -> MixedTask:
    layout = either_kind(embeddings.pairs, len(embeddings.image_features))
    return MixedTask(embeddings.image_features, embeddings.text_features, layout)


def _mixed_ndcg(task: MixedTask, method: Method) -> dict[str, Estimate]:
    found = task.quality(method)
    names = {"mixed_ndcg": "ndcg", "ndcg_own": "ndcg_own", "ndcg_other": "ndcg_other"}
    return {name: mean_estimate(found[metric], task.layout.group_of_query) for name, metric in names.items()}


def classification_figures(embeddings: Embeddings, dataset: Any = None) -> dict[str, Estimate]:
    """Accuracy of zero-shot classification."""
    images, classes, labels = embeddings.image_features, embeddings.text_features, embeddings.labels
    assert labels is not None

    def accuracy(kept: np.ndarray) -> float:
        return classification_metrics(images[kept], classes, labels[kept])["accuracy"]

    return {"accuracy": estimate(accuracy, np.arange(len(images)))}


def correlation_figures(embeddings: Embeddings, dataset: Any, name: str) -> dict[str, Estimate]:
    """Kendall's tau of caption scores with ratings; an image is left out with all its ratings.

    Args:
        embeddings: of the data set.
        dataset: the rated captions.
        name: of the figure; ends in "tau_b" or "tau_c".
    """
    formula, tau = Correlation().formula, name[-len("tau_b") :]
    rated = RatedRows(dataset, embeddings, formula.prefix, average=False)
    images, ratings = np.array(rated.images), np.array(rated.ratings)
    scores = formula.reference_free(embeddings.image_features[images], embeddings.text_features[rated.candidates])
    return {name: estimate(lambda kept: correlation_metrics(scores[kept], ratings[kept])[tau], images)}
