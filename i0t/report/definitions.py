"""Definitions of the report's numbers, for tooltips, and how to print them."""

from __future__ import annotations

from typing import NamedTuple


class Definition(NamedTuple):
    """One number of the report."""

    label: str  # on the page
    text: str  # what it is, its range and how to read it
    source: str = ""
    digits: int = 3  # decimals
    unit: str = ""  # after the number, e.g. "%"
    scale: float = 1  # factor on the library's value
    good: str = ""  # "low", "high", or "" if neither is better


MEASURES = {
    "centroid_distance": Definition(
        "Centroid distance",
        "Distance between the mean image vector and the mean text vector, each vector first scaled to length 1. "
        "0 is no gap, 2 the most. Severe from 0.63, moderate from 0.19, low below.",
        "Liang et al. 2022; paper section 3",
        good="low",
    ),
    "centroid_distance_debiased": Definition(
        "Centroid distance, de-biased",
        "The centroid distance without the bias of finite samples: means of few items differ even without a gap. An "
        "image and its captions count as one draw. Meaningless for vectors centred on their own means.",
        "square root of CD² − tr Cov(x − y)/n for n pairs, at least 0",
        good="low",
    ),
    "relative_modality_gap": Definition(
        "Relative modality gap",
        "Distance of a matched pair, compared with two random items of one modality: 0.5 means equal, more means "
        "that the gap is larger than differences of content. Depends least on the number of items. Range 0 to 1.",
        "Schrodi et al. 2024",
        good="low",
    ),
    "linear_separability": Definition(
        "Linear separability",
        "1 minus the mean squared error of a linear regression of images (1) against texts (0), fitted on 70 % of "
        "the vectors, tested on the rest. 1 is separable, no gap is about 0.75. It can be much lower with few "
        "vectors for the dimensions, or if the means come from the tested set.",
        "paper section 3; Fahim et al. 2024",
        good="low",
    ),
    "separability_auc": Definition(
        "Held-out separability (AUC)",
        "Probability that a ridge classifier, fitted on other pairs, scores a random image above a random text. 0.5 "
        "is no gap, 1 is separable. Well below 0.5, the means leaked: they come from the tested items themselves.",
        "five folds, linked items kept together",
    ),
    "cross_modal_neighbor_share": Definition(
        "Nearest neighbour of the other modality",
        "Share of items whose nearest neighbour, among all images and texts, is of the other modality. With a gap it "
        "is close to 0: a mixed search with an image finds only images. If every caption is closest to its own "
        "image, it is 100 %.",
        "mean of both directions",
        1,
        "%",
        100,
        "high",
    ),
    "first_cross_modal_rank_image": Definition(
        "First text in an image's results",
        "Search all images and texts with an image: mean rank of the first text. 1 is the top; with a gap it is "
        "behind (almost) all images. Compare only equal numbers of items.",
        "",
        1,
        good="low",
    ),
    "first_cross_modal_rank_text": Definition(
        "First image in a text's results",
        "Search all images and texts with a text: mean rank of the first image. 1 is the top; with a gap it is "
        "behind (almost) all texts. Compare only equal numbers of items.",
        "",
        1,
        good="low",
    ),
    "min_cosine_distance": Definition(
        "Minimum cosine distance",
        "1 minus the largest cosine of any image with any text: the smallest distance between the modalities. "
        "Range 0 to 2.",
        "paper section 3",
        good="low",
    ),
    "alignment": Definition(
        "Alignment",
        "Mean squared distance of matched pairs: 0 is identical, 2 unrelated, 4 opposite.",
        "Wang & Isola 2020",
        good="low",
    ),
    "uniformity_image": Definition(
        "Uniformity of images",
        "How evenly the images spread over the sphere: log of the mean of exp(−2 × squared distance). 0 is all in one "
        "point, −4 is even in many dimensions.",
        "Wang & Isola 2020",
        good="low",
    ),
    "uniformity_text": Definition(
        "Uniformity of texts",
        "How evenly the texts spread over the sphere; see uniformity of images.",
        "Wang & Isola 2020",
        good="low",
    ),
}

OTHERS = {
    "i2t": Definition(
        "Image → text R@1",
        "Share of tested images with one of their own texts at rank 1 among all tested texts; ties count as chance. "
        "The interval is a 95 % bootstrap over queries; it does not cover another choice of candidates.",
        "paper App. D; fewer candidates make it easier",
        1,
        "%",
        good="high",
    ),
    "t2i": Definition(
        "Text → image R@1",
        "Share of tested texts with their own image at rank 1 among all tested images; ties count as chance. "
        "The interval is a 95 % bootstrap over queries; it does not cover another choice of candidates.",
        "paper App. D; fewer candidates make it easier",
        1,
        "%",
        good="high",
    ),
    "mixed_search": Definition(
        "One list of images and texts",
        "A search that returns images and texts together. The index has the image of half of the images, and a text of "
        "each of the others; another text asks, and the image where a text is in the index. Removers and scores are "
        "fitted to images that are not searched. The rivals (grey) need no fitting.",
        "as `i0t search-eval`, which has further columns",
    ),
    "ndcg": Definition(
        "NDCG@10",
        "How high the relevant items stand in the first ten results: 1 is the best possible list, 0 none of them. Own "
        "kind: only relevant items of the query's own kind count (texts, if a text asks); other kind: only those of "
        "the other.",
        "Järvelin & Kekäläinen 2002",
        good="high",
    ),
    "own_share": Definition(
        "Kinds in the top ten",
        "Share of the query's own kind among the first ten results. 100 %: images find only images, texts only texts, "
        "as with a large gap. Dashed: its share among the items that are relevant. With one relevant item a query, "
        "nine of ten results are others, so a good list may lie far from it.",
        "",
        0,
        "%",
        100,
    ),
    "modality_gap": Definition(
        "Modality gap",
        "Models such as CLIP put all images in one narrow cone and all texts in another, so that two random images "
        "are closer to one another than an image is to its own caption.",
        "Liang et al. 2022",
    ),
    "i0t_post": Definition(
        "I0T_post",
        "Subtract from every image vector the mean image vector, from every text vector the mean text vector, and "
        "scale to length 1 again.",
        "paper section 4.2",
    ),
    "held_out": Definition(
        "Held-out means",
        "The means come from items that are not tested: half of all linked groups, drawn at random. A deployed "
        "system can do the same. “After” on this page means held-out means unless it says otherwise.",
    ),
    "test_means": Definition(
        "Test means (leak)",
        "The means come from the tested items: the paper's protocol. The centroid distance is then almost zero by "
        "construction, for any model. Shown for comparison only.",
        "paper section 4.2",
    ),
    "cosine": Definition(
        "Cosine",
        "Similarity of two vectors: 1 is the same direction, 0 unrelated, −1 opposite. Matched: an image and its own "
        "text. Unmatched: an image and the text of another. Image–image and text–text: two different items.",
        "paper Fig. 5",
    ),
    "mean_activation": Definition(
        "Mean activation",
        "Mean of one dimension over all unit vectors of a modality. Content averages out; what remains is common to "
        "all images or all texts. Dimensions with 5 times the median or more are marked.",
        "paper Fig. 3",
    ),
    "gap_share": Definition(
        "Share of the squared gap",
        "CD² is the sum over dimensions of (image mean − text mean)²; this is the part of the named dimensions.",
    ),
    "law": Definition(
        "The law c·√(1/n + 1/m)",
        "Means of n calibration items and of m other items differ by chance alone, by about c·√(1/n + 1/m). c is the "
        "root mean square of CD ÷ √(1/n + 1/m) over all draws. If the points follow the curve, the remaining gap is "
        "chance, and more calibration items lower it.",
        "compare paper Table 3, which tests on the items that gave the means",
    ),
    "sphere": Definition(
        "Sphere",
        "Every vector as a point on a 3-D sphere. UMAP (output metric haversine) keeps neighbours together; distances "
        "between far groups mean little. PCA shows the three directions of largest variance. Before and after have "
        "separate layouts, so compare only which points are close.",
        "paper App. D",
    ),
}

GLOSSARY = {**MEASURES, **OTHERS}
