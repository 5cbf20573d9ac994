"""Say how a result was made, in its attributes, and check that the inputs of a run do not change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastism_cli.errors import UsageError
from fastism_cli.genome.input_files import FileState, as_utf8, content_sha256, file_sha256, state_of
from fastism_cli.options.per_head import split_named
from fastism_cli.options.replacement import names_file
from fastism_cli.options.run_options import RunOptions, parse_window
from fastism_cli.options.shard import parse_shard
from fastism_cli.results.layout import MeanOf, ModelFile
from fastism_cli.results.schema import FORMAT_VERSION, WIDER_VERSION
from fastism_cli.run.inputs_and_targets import CONSTANTS
from fastism_cli.run.request import RunRequest
from fastism_cli.version import __version__


def sha256_of(files: list[Path]) -> str:
    """Of one file as ``sha256sum`` prints it; of several, of their digests in order; ``""`` of none.

    Raises
    ------
    UsageError
        If one cannot be read.
    """
    digests = []
    for file in files:
        try:
            digests.append(file_sha256(file))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def other_files(options: RunOptions) -> list[Path]:
    """Files besides model, BED and FASTA that decide numbers or names in the result."""
    named = [value for _, value in split_named(options.inputs) if value not in CONSTANTS]
    named += [value for _, value in split_named(options.target_names)]
    named += [options.replace_with] if options.replace_with and names_file(options.replace_with) else []
    # os.path: Path.is_file raises an error for a name that is too long, or in a folder that cannot be entered
    return [Path(path) for path in [*named, *options.custom_objects, *options.rules] if os.path.isfile(path)]


def run_attributes(request: RunRequest, *, bed: str, bed_sha256: str) -> dict[str, Any]:
    """Attributes that do not depend on the loaded model: options and input files."""
    options, fasta = request.options, request.fasta
    model_sha256 = sha256_of([file for model in request.models for file in model.files])
    fasta_sha256, files_sha256 = content_sha256(fasta), sha256_of(other_files(options))
    config, shard = options.config(), parse_shard(options.shard)
    asked = "\n".join([config, model_sha256, bed_sha256, fasta_sha256, files_sha256])
    attributes = {
        "fastism_version": __version__,
        "fasta_path": fasta,
        "fasta_sha256": fasta_sha256,
        "files_sha256": files_sha256,
        "bed_path": bed,
        "folder": os.getcwd(),
        "shard_index": shard.index,
        "num_shards": shard.count,
        "command": request.command,
        "config": config,
        "config_sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "model_path": request.models[0].path or "",
        "model_sha256": model_sha256,
        "bed_sha256": bed_sha256,
        "format_version": _format_version(request),
        "stranded": options.stranded,
        "precision": options.precision,
        "tensorflow_version": installed("tensorflow"),
        "keras_version": installed("keras"),
    }
    if options.scale:
        attributes["scale"] = ", ".join(options.scale)
    if request.averages is not None:
        attributes["averaged"] = _averaged(request)
    return {name: storable(value) for name, value in attributes.items()}


def _averaged(request: RunRequest) -> str:
    """What every score is the mean of, as JSON: the models, and the options."""
    models = tuple(ModelFile(as_utf8(model.path or ""), sha256_of(model.files)) for model in request.models)
    averages, pairs = request.options.averages, tuple(map(as_utf8, request.options.rc_pairs))
    return MeanOf(models, averages.rc, pairs, averages.shifts, averages.average, averages.spread).to_json()


def _format_version(request: RunRequest) -> float:
    """The first version of the format whose readers know what is asked for."""
    options, window = request.options, parse_window(request.options.window)
    is_wider = (window is not None and window.first is not None) or options.scale or options.within
    is_wider = is_wider or options.replace_with is not None
    return WIDER_VERSION if is_wider or request.averages is not None else FORMAT_VERSION


def storable(value: Any) -> Any:
    """An attribute as HDF5 holds it."""
    return as_utf8(value) if isinstance(value, str) else value


def installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


class Watch:
    """Files that must not change from now on, with their facts.

    Parameters
    ----------
    cure : str
        What a message says after the name of the file that has changed.
    """

    def __init__(
        self,
        paths: Iterable[str],
        cure: str = "Put it back and continue with --resume, or start anew with --overwrite.",
    ) -> None:
        self._before = {path: _state(path) for path in paths}
        self._cure = cure

    def check(self) -> None:
        """Compare all files with their state at the beginning.

        Raises
        ------
        UsageError
            Names the first that has changed.
        """
        for path, before in self._before.items():
            if _state(path) != before:
                raise UsageError(f"{path} has changed since this run began. {self._cure}")


def _state(path: str) -> FileState | None:
    try:
        return state_of(path)
    except OSError:
        return None
