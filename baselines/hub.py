"""Models of the Hugging Face hub through transformers, with a check that all parameters are loaded."""

from __future__ import annotations

from typing import Any

from i0t.encoders.hub import hub_calls, not_at_hand
from i0t.errors import I0TError


def from_hub(model_class: type[Any], name: str) -> Any:
    """Load a transformers model in float32, downloaded on first use.

    Raises:
        I0TError: it is neither in the cache nor can be downloaded, or parameters are missing.
    """
    try:
        with hub_calls() as silence:
            model, info = model_class.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise I0TError(f"{not_at_hand(name, error, silence)} Or use the authors' own file.") from None
    strange = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    for what, keys in (("missing", info["missing_keys"]), ("left over", strange)):
        if keys:
            raise I0TError(f"{name}: not a {model_class.__name__}. Keys {what}: {', '.join(sorted(keys)[:20])}")
    return model.float().eval()
