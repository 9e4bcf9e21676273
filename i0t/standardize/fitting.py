"""Fit gap removers to what a user names: the evaluated set, training pairs, or files of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from i0t.embeddings import FORMAT as EMBEDDINGS_FORMAT
from i0t.embeddings import Embeddings, load_embeddings
from i0t.errors import I0TError
from i0t.origin import Origin
from i0t.reading import safetensors_format
from i0t.standardize.registry import NONE, RemoverChoice, load_remover
from i0t.standardize.remover import MODALITIES, GapRemover
from i0t.standardize.swapped import require_own_sides

TEST, TRAIN = "test", "train"  # values of `fit_on`; "test" is the default split, too


def fit_remover(
    choice: RemoverChoice,
    fit_on: str,
    evaluated: Embeddings,
    calibration: Callable[[], Embeddings] | None = None,
) -> GapRemover | None:
    """Fit the remover of an evaluation; None for "none".

    Args:
        choice: the remover.
        fit_on: "test": the evaluated set itself (the paper's protocol, which leaks); "train": the calibration
            set; else a file of vectors or of a fitted remover.
        evaluated: the embeddings to move later, as encoded.
        calibration: encodes training pairs with the same model; called only for "train".

    Raises:
        I0TError: a bad file, a file of another model, or no model to encode training pairs.
    """
    if choice.name == NONE:
        return None
    if fit_on != TRAIN and [Path(file).resolve() for file in evaluated.files] == [Path(fit_on).resolve()]:
        fit_on = TEST  # the evaluated file itself
    known = {key: evaluated.metadata.get(key) for key in ("model", "fingerprint", "model_is_file_name")}
    if fit_on == TEST:  # with item hashes, so that a later use of the saved means is recognised as a leak
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
        remover = choice.make().fit_embeddings(pairs)  # with hashes: evaluated items may be among the pairs
        remover.origin = Origin.from_dict({**known, **part, "fit_on": TRAIN})
        return remover
    return fit_to_files([choice], [fit_on], [evaluated], in_record=True, flag="--remove-gap")[choice.name]


def fit_to_files(
    choices: Sequence[RemoverChoice],
    paths: Sequence[str | Path],
    moved: Sequence[Embeddings] = (),
    in_record: bool = False,
    flag: str = "--remover",
) -> dict[str, GapRemover]:
    """Fit removers to files of vectors, or load them from one fitted file; return them by name.

    Args:
        choices: the removers.
        paths: vectors for `load_embeddings`, paired or not; or one file of a fitted remover.
        moved: the embeddings to move later, which must be of the same model.
        in_record: keep more about the files, for a record.
        flag: the program's flag for a remover, for errors.

    Raises:
        I0TError: bad files, files of another model, or images and texts swapped.
    """
    vectors = vectors_to_fit(paths)
    fitted = {}
    for choice in choices:
        if vectors is None:
            remover = load_remover(paths[0], choice.name, choice.parameters, flag)
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
            require_own_sides({side: remover.mean(side) for side in MODALITIES}, embeddings, " ".join(map(str, paths)))
    return fitted


def vectors_to_fit(paths: Sequence[str | Path]) -> Embeddings | None:
    """Read the vectors of `--fit-on`; None if it names one file of something fitted. Raises as `load_embeddings`."""
    is_vectors = len(paths) != 1 or Path(paths[0]).suffix == ".npy"
    if is_vectors or safetensors_format(paths[0]) == EMBEDDINGS_FORMAT:
        return load_embeddings(paths, paired=False)
    return None
