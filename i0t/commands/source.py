"""Embeddings of a model and a data set, for a command that is given no files."""

from __future__ import annotations

import argparse

import numpy as np

from i0t.embeddings import Embeddings


def encode_source(arguments: argparse.Namespace) -> Embeddings:
    """Embeddings of a retrieval set (`--dataset`) by a model (`--model`), first captions or more.

    Args:
        arguments: the common flags, `model`, `dataset` and `captions_per_image`.

    Raises:
        I0TError: no such model or data, or an unreadable picture.
    """
    from i0t.cli import device_of, workers_of
    from i0t.data.captions import load_captions
    from i0t.data.roots import roots_of
    from i0t.encoders import load_encoder

    roots = roots_of(arguments)
    captions = load_captions(arguments.dataset, roots.data_dir_sub)
    texts, image_of_text = captions.texts(arguments.captions_per_image)
    encoder = load_encoder(arguments.model, device_of(arguments), roots)
    batch_size = arguments.batch_size or 64
    images = encoder.encode_images(
        captions.images, batch_size, workers_of(arguments), arguments.skip_unreadable, progress=True
    )
    kept = encoder.report.kept
    row_of = {image: row for row, image in enumerate(kept)}
    used = [row for row, image in enumerate(image_of_text) if image in row_of]  # texts of readable pictures
    texts = [texts[row] for row in used]
    return Embeddings(
        image_features=images.numpy(),
        text_features=encoder.encode_texts(texts, batch_size, progress=True).numpy(),
        image_of_text=np.array([row_of[image_of_text[row]] for row in used]),
        image_ids=[captions.images[row].name for row in kept],
        texts=texts,
        metadata={
            "model": arguments.model,
            "fingerprint": encoder.fingerprint,
            "dataset": arguments.dataset,
            "split": "test",
            "source": str(captions.source),
            "unreadable": encoder.report.unreadable,
        },
    )
