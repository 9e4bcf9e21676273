"""Program: write a checkpoint as a folder that open_clip or transformers loads, with that library alone. `i0t export`.

The folder holds the model's weights, configuration and tokenizer. BatchNorm heads are no part of any library: they
are written beside it as transform.safetensors, the affine map of `i0t apply`, with image_matrix, image_bias,
text_matrix and text_bias: x' = normalise(matrix @ normalise(x) + bias). Of heads on a model of transformers or
sentence-transformers only this map is written, as the model is loaded from where it is.

  i0t export CHECKPOINT --to transformers folder
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from i0t.cli import Parser, program
from i0t.files import ensure_folder

TRANSFORM = "transform.safetensors"
LOADED = {
    "open_clip": 'open_clip.create_model_from_pretrained("local-dir:{folder}") and get_tokenizer of the same name',
    "transformers": 'AutoModel.from_pretrained("{folder}"), AutoProcessor.from_pretrained("{folder}", backend="pil")',
}
LIBRARIES = (*LOADED, "sentence-transformers")


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = Parser(prog="i0t export", description=__doc__)
    parser.add_argument("model", help="a checkpoint, or any model of open_clip that --model takes")
    parser.add_argument("--to", required=True, choices=LIBRARIES, help="the library that is to load it")
    parser.add_argument("folder", type=Path, help="a new folder")
    arguments = parser.parse_args(argv)

    from i0t.encoders import load_encoder
    from i0t.encoders.export import export_encoder, heads_as_maps, is_only_heads, require_new
    from i0t.search.transform import FORMULA, VectorTransform

    encoder = load_encoder(arguments.model)
    maps = heads_as_maps(encoder) if encoder.heads is not None else None
    require_new(arguments.folder)
    if is_only_heads(encoder, arguments.to):
        ensure_folder(arguments.folder)
    else:
        export_encoder(encoder, arguments.folder, arguments.to)
        print(f"{arguments.folder}: loads with {LOADED[arguments.to].format(folder=arguments.folder)}.")
    if maps is not None:
        about = {"remover": "batch_norm heads", "model": encoder.name, "fingerprint": encoder.fingerprint}
        transform = VectorTransform(*maps["image"], *maps["text"], description=about)
        transform.save(arguments.folder / TRANSFORM)
        print(f"{arguments.folder / TRANSFORM}: its heads; move every vector by it: {FORMULA}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
