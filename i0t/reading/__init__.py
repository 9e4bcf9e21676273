"""Reading what a user hands in: each format in one place, with bounds; every error names the file."""

from i0t.reading.arrays import json_entry, read_npy, read_safetensors, safetensors_format
from i0t.reading.form import REMEDY, check_json
from i0t.reading.text import has_words, parse_json, parse_yaml, read_json, read_text, read_yaml

__all__ = [
    "REMEDY",
    "check_json",
    "has_words",
    "json_entry",
    "parse_json",
    "parse_yaml",
    "read_json",
    "read_npy",
    "read_safetensors",
    "read_text",
    "read_yaml",
    "safetensors_format",
]
