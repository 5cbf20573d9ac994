"""The table of ``fastism top``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fastism_cli.errors import UsageError
from fastism_cli.export.exported_regions import Choice, ExportedRegions
from fastism_cli.export.output_files import FLOAT, open_text, scratch_folder
from fastism_cli.export.strongest import chosen_substitutions
from fastism_cli.export.tables import WHOLE
from fastism_cli.optional import require
from fastism_cli.options.choices import LINE_FOR, OVERLAPS
from fastism_cli.results.outputs import check_new_file, check_stream, require_name
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import is_stream, staged
from fastism_cli.scores.tracks import Array, choose_tracks

PARQUET = ".parquet"
Columns = dict[str, Array]


def write_top(
    path: str | os.PathLike[str],
    output: str = "-",
    *,
    n: int = 50,
    min_delta: float = 0.0,
    by: str = "substitution",
    overlap: str | None = None,
    targets: Sequence[str] = (),
    overwrite: bool = False,
) -> int:
    """Write the strongest substitutions of each target, the strongest first.

    Parameters
    ----------
    path : str or path-like
        A finished result of ``fastism run``.
    output : str
        TSV, or Parquet if the name ends in .parquet; ``-`` is stdout.
    n, min_delta, by, overlap
        See :class:`fastism_cli.export.exported_regions.Choice`; "mean" is the default of ``overlap``.
    targets : sequence of str
        ``[HEAD=]LIST``; default: all.

    Returns
    -------
    int
        How many lines it has.

    Raises
    ------
    UsageError
        If the file is no finished result, or an option has no such value.
    OutputError
        If the output exists and may not be replaced, or cannot be written.
    """
    for option, value, allowed in (("--by", by, LINE_FOR), ("--overlap", overlap or "mean", OVERLAPS)):
        if value not in allowed:
            raise UsageError(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}")
    require_name(output, "--output")
    with open_scores(path) as scores:
        scores.require_bases()
        _check_blocks(scores, by, overlap)
        tracks = choose_tracks(scores, targets)
        if is_stream(output):
            check_stream(output, scores.protected, option="--output")
        else:
            check_new_file(output, scores.protected, overwrite=overwrite)
        choice = Choice(n, min_delta, by, overlap or "mean")
        (found,) = chosen_substitutions(ExportedRegions(scores), tracks, choice, scratch_folder(output))
        columns = scores.columns(found, tracks)
    _write(output, columns, overwrite)
    return len(found)


def _check_blocks(scores: Scores, by: str, overlap: str | None) -> None:
    """Refuse what has no meaning for blocks."""
    for option, value in (("--by base", by == "base"), ("--overlap", overlap is not None)):
        if value and scores.places is not None:
            raise UsageError(
                f"{option} is of single letters, and {scores.path} holds scores of blocks. A block has a line for each "
                "region that holds it; --by site has the strongest of all that overlap it."
            )


def _write(output: str, columns: Columns, overwrite: bool) -> None:
    if is_stream(output):
        _write_tsv(output, columns)
        return
    with staged(output, overwrite=overwrite) as staging:
        write = _write_parquet if output.endswith(PARQUET) else _write_tsv
        write(staging.path(output), columns)
        staging.move()


def _write_tsv(path: str, columns: Columns) -> None:
    formats = {**dict.fromkeys(WHOLE, "%d"), "delta": FLOAT, "reference": FLOAT}
    line = "\t".join(formats.get(name, "%s") for name in columns) + "\n"
    with open_text(path) as file:
        file.write("\t".join(columns) + "\n")
        file.writelines(map(line.__mod__, zip(*(values.tolist() for values in columns.values()), strict=True)))


def _write_parquet(path: str, columns: Columns) -> None:
    pa = require("pyarrow", wanted_by="a table in Parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="a table in Parquet", extra="export")
    kinds = {**dict.fromkeys(WHOLE, pa.int64()), "delta": pa.float32(), "reference": pa.float32()}
    arrays = {name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()}
    parquet.write_table(pa.table(arrays), path)
