"""Compare the configurations of two result files, or of a file and a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastism_cli.options.problems import MAX_LONG_LETTERS, brief
from fastism_cli.results.intact import plain

# Attributes that decide the numbers of a row, and how a message calls them.
SAME: dict[str, str] = {
    "format_version": "the version of the format",
    "fastism_version": "the version of fastism",
    "backend": "the backend",
    "model_sha256": "the model file",
    "bed_sha256": "the BED",
    "fasta_sha256": "the FASTA",
    "files_sha256": "the files of --input, --target-names or --custom-objects",
    "config": "the options",
    "input_length": "the length of the input",
    "n_total": "the number of rows",
    "engine": "the engine",
}
SAME_ROWS: dict[str, str] = {name: name for name in ("row_start", "row_stop", "shard_index", "num_shards")}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str] = SAME) -> list[str]:
    """A phrase for each difference; only attributes that both have are compared.

    Options are called by their name: ``"--window: 100 and 200"``.
    """
    found = []
    for name, word in names.items():
        if name not in before or name not in now or before[name] == now[name]:
            continue
        both = plain(before[name]), plain(now[name])
        found += _options(*both) if name == "config" else [_phrase(word, *both)]
    return found


def _options(before: str, now: str) -> list[str]:
    old, new = json.loads(before), json.loads(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [_phrase(f"--{key.replace('_', '-')}", old.get(key), new.get(key)) for key in keys]


def _phrase(word: str, before: Any, now: Any) -> str:
    if word.startswith("the ") and len(str(before)) == len(str(now)) == 64:
        return f"{word} (SHA-256 {before[:8]}... and {now[:8]}...)"
    return f"{word}: {_text(before)} and {_text(now)}"


def _text(value: Any) -> str:
    return brief(value, MAX_LONG_LETTERS) if value or isinstance(value, (int, float)) else "not given"
