"""Models of the Hugging Face hub through transformers, with a check that all parameters are loaded."""

from __future__ import annotations

from typing import Any

from i0t.errors import I0TError, first_line


def from_hub(model_class: type[Any], name: str) -> Any:
    """Load a transformers model in float32, downloaded on first use.

    Raises:
        I0TError: it is neither in the cache nor can be downloaded, or parameters are missing.
    """
    try:
        model, info = model_class.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise I0TError(
            f"{name}: can be neither found in the cache of the Hugging Face hub nor downloaded "
            f"({first_line(error)[:160]}). Connect once, or use the authors' own file."
        ) from None
    strange = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    for what, keys in (("missing", info["missing_keys"]), ("left over", strange)):
        if keys:
            raise I0TError(f"{name}: not a {model_class.__name__}. Keys {what}: {', '.join(sorted(keys)[:20])}")
    return model.float().eval()
