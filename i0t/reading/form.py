"""`check_json`: the form of a user's JSON, checked with pydantic; and how its errors read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from i0t.errors import I0TError

REMEDY = "Correct it, or download the file again."
_TYPES = {
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
}


def check_json(form: Any, content: Any, source: str | Path, expected: str, remedy: str = REMEDY) -> Any:
    """Check and convert the content of a user's file with pydantic.

    Raises:
        I0TError: it has another form; names the wrong entry and field, and the value there.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(form).validate_python(content, strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
    place: list[str] = []
    for part in wrong["loc"]:
        if isinstance(part, str):
            place.append(f'"{part}"')
        elif place:
            place[-1] += f"[{part}]"
        else:
            place.append(f"entry {part}")
    shown = json.dumps(wrong["input"], ensure_ascii=False, default=str)
    is_other = f"is {shown if len(shown) <= 60 else f'{shown[:57]}...'}, not {_TYPES.get(wrong['type'], wrong['msg'])}"
    if wrong["type"] == "missing":
        place[-1] = f"has no {place[-1]}"
    elif place and _TYPES.get(wrong["type"]) != "an object":
        place[-1] += f" {is_other}"
    else:
        place.append(is_other)
    raise I0TError(f"{source}: expected {expected}: {': '.join(place)}. {remedy}")
