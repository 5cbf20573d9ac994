"""One run as one value: its model, files, options and command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from fastism_cli.model.loading.source import ModelSource
from fastism_cli.options.run_options import RunOptions, default_output
from fastism_cli.options.shard import Shard, parse_shard


@dataclass(frozen=True)
class RunRequest:
    """One run.

    Attributes
    ----------
    model : ModelSource
    bed : str or None
        A path, or "-" for stdin; None scores every record of the FASTA.
    fasta, output : str
    options : RunOptions
    command : str
        The command line, which the result file keeps.
    device_rows : Shard
        If the run is one of several on as many devices: its share of the rows of the shard.
    """

    model: ModelSource
    bed: str | None
    fasta: str
    output: str
    options: RunOptions
    command: str = ""
    device_rows: Shard = Shard()  # noqa: RUF009  (a frozen value)

    @classmethod
    def of(
        cls,
        model: Any,
        bed: str | None,
        fasta: str,
        output: str | None,
        options: RunOptions | None = None,
        *,
        command: str = "",
        device_rows: Shard = Shard(),  # noqa: B008  (a frozen value)
    ) -> RunRequest:
        """Make a request from a path or a model; ``output`` None is the default name."""
        options = options or RunOptions()
        if output is None:
            output = default_output(bed, fasta, parse_shard(options.shard))
        return cls(ModelSource.of(model, options), bed, fasta, os.fspath(output), options, command, device_rows)
