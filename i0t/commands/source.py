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
    from i0t.data.datasets import load_dataset
    from i0t.data.roots import roots_of
    from i0t.encoders import load_encoder

    roots = roots_of(arguments)
    items = load_dataset(arguments.dataset, roots, arguments.allow_partial).items(arguments.captions_per_image)
    encoder = load_encoder(arguments.model, device_of(arguments), roots)
    batch_size = arguments.batch_size or 64
    images = encoder.encode_images(
        items.images, batch_size, workers_of(arguments), arguments.skip_unreadable, progress=True
    )
    kept = encoder.report.kept
    row_of = {image: row for row, image in enumerate(kept)}
    used = [row for row, (image,) in enumerate(items.owners) if image in row_of]  # texts of readable pictures
    texts = [items.texts[row] for row in used]
    return Embeddings(
        image_features=images.numpy(),
        text_features=encoder.encode_texts(texts, batch_size, progress=True).numpy(),
        image_of_text=np.array([row_of[items.owners[row][0]] for row in used]),
        image_ids=[items.image_ids[row] for row in kept],
        texts=texts,
        metadata={
            "model": arguments.model,
            "fingerprint": encoder.fingerprint,
            **items.metadata,
            "unreadable": encoder.report.unreadable,
        },
    )
