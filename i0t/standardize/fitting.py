"""Where a remover's means come from, for every program, and what a record says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from i0t.embeddings import FORMAT as EMBEDDINGS_FORMAT
from i0t.embeddings import Embeddings, Origin, load_embeddings
from i0t.errors import I0TError
from i0t.files import safetensors_format
from i0t.standardize.registry import NONE, RemoverChoice, load_remover
from i0t.standardize.remover import GapRemover
from i0t.standardize.saved import Overlap

TEST, TRAIN = "test", "train"


def fit_remover(
    choice: RemoverChoice,
    fit_on: str,
    evaluated: Embeddings,
    calibration: Callable[[], Embeddings] | None = None,
) -> GapRemover | None:
    """The remover of an evaluation; None where nothing is to be removed.

    Args:
        choice: which one.
        fit_on: "test": the evaluated set itself (the paper's protocol; it leaks); "train": the calibration
            set; else a file of vectors or of a fitted remover.
        evaluated: what it will move, as encoded.
        calibration: encodes training pairs by the same model; called for "train" alone.

    Raises:
        I0TError: a bad file, or one of another model; or nothing can encode training pairs.
    """
    if choice.name == NONE:
        return None
    if fit_on != TRAIN and [Path(file).resolve() for file in evaluated.files] == [Path(fit_on).resolve()]:
        fit_on = TEST  # the evaluated file by its name
    known = {key: evaluated.metadata.get(key) for key in ("model", "fingerprint", "model_is_file_name")}
    if fit_on == TEST:  # with the items' hashes, so that the saved means are known again as a leak
        split = evaluated.metadata.get("split", TEST)
        return choice.make().fit_embeddings(evaluated, fit_on=TEST, split=split)
    if fit_on == TRAIN:
        if calibration is None:
            raise I0TError(
                "--fit-on train: the training pairs must be encoded by the model itself, and --embeddings brings "
                "none. Use --fit-on test, or a means, Embeddings or .npy file of the same model."
            )
        pairs = calibration()
        part = {key: pairs.metadata.get(key) for key in ("dataset", "split")}
        return choice.make().fit(pairs.image_features, pairs.text_features, {**known, **part, "fit_on": TRAIN})
    return fit_to_files([choice], [fit_on], [evaluated], in_record=True)[choice.name]


def fit_to_files(
    choices: Sequence[RemoverChoice],
    paths: Sequence[str | Path],
    moved: Sequence[Embeddings] = (),
    in_record: bool = False,
) -> dict[str, GapRemover]:
    """Removers by name, fitted to vectors, or read from the file that one was saved to.

    Args:
        choices: which ones.
        paths: vectors as `load_embeddings` takes them, paired or not, or one file of a fitted remover.
        moved: what they will move, which must be of the same model.
        in_record: keep also what only a record wants to know of the files.

    Raises:
        I0TError: what is wrong with the files, or another model.
    """
    is_vectors = len(paths) != 1 or Path(paths[0]).suffix == ".npy"
    vectors = None
    if is_vectors or safetensors_format(paths[0]) == EMBEDDINGS_FORMAT:
        vectors = load_embeddings(paths, paired=False)
    fitted = {}
    for choice in choices:
        if vectors is None:
            remover = load_remover(paths[0], choice.name, choice.parameters)
        elif in_record:
            remover = choice.make().fit_embeddings(vectors, **{**vectors.metadata, "fit_on": "embeddings"})
        else:
            remover = choice.make().fit_embeddings(vectors)
        if in_record:
            remover.origin = Origin.from_dict({**remover.origin.as_dict(), "file": str(paths[0])})
        fitted[choice.name] = remover
    for remover in fitted.values():
        for embeddings in moved:
            try:
                remover.origin.require_same_model(embeddings.origin)
            except I0TError as error:
                raise I0TError(f"{' '.join(map(str, paths))}: {error}") from None
    return fitted


def describe(remover: GapRemover | None, evaluated: Embeddings) -> dict[str, Any]:
    """What a record says of the remover: its name, parameters and where the means came from.

    Args:
        remover: fitted; None where nothing is removed.
        evaluated: as encoded, with the metadata that name its data set.

    Returns:
        For the protocol. `means_leak` is whether the means are those of evaluated items: True where some were
        fitted, or where both name one data set; None where neither items nor data sets are known. `fit_overlap`
        has the share of the evaluated items that were fitted, by kind of hash; None where it is not known.
    """
    if remover is None:
        return {"remove_gap": NONE}
    origin, overlap = remover.origin, remover.overlap(evaluated)
    return {
        "remove_gap": remover.name,
        "remover_parameters": remover.parameters(),
        "fit_on": origin.fit_on,
        "fit_file": origin.file,
        "fit_dataset": origin.dataset,
        "n_fit_images": remover.n_images_,
        "n_fit_texts": remover.n_texts_,
        "means_fingerprint": remover.fingerprint,
        "fit_overlap": overlap.shares or None,
        "means_leak": _leaks(overlap, origin, evaluated.metadata),
    }


def _leaks(overlap: Overlap, origin: Origin, evaluated: dict[str, Any]) -> bool | None:
    """Whether evaluated items were fitted: by their hashes, else by the names of the data sets."""
    if overlap:
        return True
    if origin.dataset is None or origin.extra.get("model_is_file_name"):  # then the data set's name is it, too
        return None if overlap.image_share is None else False
    same_set = _pictures(origin.dataset) == _pictures(evaluated.get("dataset"))
    return same_set and (origin.split or TEST) == (evaluated.get("split") or TEST)


def _pictures(dataset: str | None) -> str | None:
    """Sets that share pictures count as one: Flickr8k-Expert and Flickr8k-CF."""
    return "flickr8k" if dataset and dataset.startswith("flickr8k_") else dataset
