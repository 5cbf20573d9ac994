"""One run as one value: its models, files, options and command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastism_cli.errors import UsageError
from fastism_cli.model.loading.source import ModelSource
from fastism_cli.options.averages import Averages
from fastism_cli.options.run_options import RunOptions, default_output
from fastism_cli.options.shard import Shard, parse_shard


@dataclass(frozen=True)
class RunRequest:
    """One run.

    Attributes
    ----------
    models : tuple of ModelSource
        One, or several whose mean is scored.
    bed : str or None
        A path, or "-" for stdin; None scores every record of the FASTA.
    fasta, output : str
    options : RunOptions
    command : str
        The command line, which the result file keeps.
    device_rows : Shard
        If the run is one of several on as many devices: its share of the rows of the shard.
    """

    models: tuple[ModelSource, ...]
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
        """Make a request from a path or a model, or a list of them; ``output`` None is the default name."""
        options = options or RunOptions()
        if output is None:
            kind = "ism" if options.within is None else "pairs"
            output = default_output(bed, fasta, parse_shard(options.shard), kind)
        return cls(sources_of(model, options), bed, fasta, os.fspath(output), options, command, device_rows)

    @property
    def averages(self) -> Averages | None:
        """What every score is the mean of; None if it is no mean."""
        averages = self.options.averages
        return None if len(self.models) == 1 and averages.is_plain else averages


def sources_of(model: Any, options: RunOptions) -> tuple[ModelSource, ...]:
    """The models of a path or a model, or of a list of them."""
    given = model if isinstance(model, (list, tuple)) else [model]
    return tuple(ModelSource.of(one, options) for one in given)


def check_together(models: Sequence[ModelSource], options: RunOptions) -> None:
    """Refuse models that cannot be scored together, by what is known before they are loaded.

    Raises
    ------
    UsageError
    """
    names = [model.path for model in models if model.path is not None]
    files = [os.path.realpath(name) for name in names]  # a link, or another way to write a name, is no other model
    again = [name for i, name in enumerate(names) if files[i] in files[:i]]
    if not models:
        raise UsageError("There is no model: give one, or several.")
    if again:
        raise UsageError(f"--model {again[0]} is given twice. Give each model of a mean once.")
    if options.spread and len(models) < 2:
        raise UsageError("--spread is the deviation over several models: give --model more than once.")
    if options.weights is not None and len(models) > 1:
        raise UsageError("--weights is of one model. Save each of several with its weights, as .keras or .h5.")
