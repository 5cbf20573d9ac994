"""The one rule for all outputs of a command: which files may be written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastism_cli.errors import OutputError, brief
from fastism_cli.genome.input_files import STDIN, content_sha256, file_sha256
from fastism_cli.options.choices import split_named
from fastism_cli.results.crash_safe_file import NEW, SUFFIX, in_use, is_in_use, read_checkpoint
from fastism_cli.results.layout import MeanOf, ModelFile
from fastism_cli.results.schema import PARTIAL_SUFFIX
from fastism_cli.results.staging import STDOUT_NAMES, is_pipe, is_stream, names_stream
from fastism_cli.results.stdout import stdout_descriptor

INDEXES = (".fai", ".gzi", ".tbi", ".csi")  # of a FASTA or a VCF, beside it
MAX_MODEL_FILES = 10_000  # of a folder; a SavedModel has a few
HDF5 = b"\x89HDF\r\n\x1a\n"


def check_new_file(
    output: str,
    inputs: Iterable[Any],
    *,
    overwrite: bool,
    resume: bool = False,
    role: str = "an input of this run",
    option: str = "--output",
    others: Iterable[str] = (),
    is_result: bool = False,
) -> None:
    """Check that an output can be written: the one rule for every file of every command.

    It is never an input, nor the index of one; never another output of the same command; and no file that exists,
    unless that may be replaced.

    Parameters
    ----------
    inputs : iterable of str, path-like or other objects
        Only paths are compared: by the file that they lead to, so that links and other ways to write a name are found.
        A folder stands for all files in it.
    role : str
        What the message calls an input.
    option : str
        What chose the name.
    others : iterable of str
        Other files that the command writes.
    is_result : bool
        Whether the file is a result, which is written under a name of its own until it is complete.

    Raises
    ------
    OutputError
    """
    inputs = list(inputs)
    _refuse_inputs(output, inputs, role, option)
    for other in others:
        if _place(output) == _place(other) or _is_same(output, other):
            raise OutputError(f"{output} is another output of this command ({other}). Choose another {option}.")
    if not is_result:
        _check_file(output, overwrite=overwrite or resume, option=option)
        return
    for unfinished in unfinished_names(output):
        _refuse_inputs(unfinished, inputs, role, option)
    check_output(output, overwrite=overwrite, resume=resume)


def unfinished_names(output: str) -> tuple[str, str, str]:
    """The files of a result that is not complete: rows, and the journal of its checkpoints, old and new."""
    journal = output + PARTIAL_SUFFIX + SUFFIX
    return output + PARTIAL_SUFFIX, journal, journal + NEW


def check_written(output: str, inputs: Iterable[Any], *, overwrite: bool, option: str = "--output") -> None:
    """Check a file that may be a stream as well: see :func:`check_new_file` and :func:`is_stream`.

    Raises
    ------
    OutputError
    """
    if is_stream(output):
        check_stream(output, inputs, option=option)
    else:
        check_new_file(output, inputs, overwrite=overwrite, option=option)


def check_stream(output: str, inputs: Iterable[Any], *, role: str = "an input of this run", option: str) -> None:
    """Check that what is written into a stream does not get into an input, as ``/dev/stdout > genome.fa`` would.

    Raises
    ------
    OutputError
    """
    _refuse_inputs("/dev/stdout" if output == STDIN else output, inputs, role, option)


def _refuse_inputs(output: str, inputs: Iterable[Any], role: str, option: str) -> None:
    place = f"/dev/fd/{stdout_descriptor()}" if output in STDOUT_NAMES else output
    if "\0" in output or not os.path.exists(place):
        return
    for path in inputs:
        if isinstance(path, Recorded) and path.is_content_of(place):
            raise OutputError(f"{output} is {role}: it has the content of {path.name}. Choose another {option}.")
        if isinstance(path, (str, os.PathLike)) and path not in ("", STDIN):
            found = next((file for file in _files_of(os.fspath(path)) if _is_same(place, file)), None)
            if found is not None:
                raise OutputError(f"{output} is {role}. Choose another {option}.")


def _files_of(path: str) -> Iterator[str]:
    """A file and its indexes, or all files of a folder, such as a SavedModel."""
    if os.path.isdir(path):
        inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        yield from islice(inside, MAX_MODEL_FILES)
    else:
        yield from (path + ending for ending in ("", *INDEXES))


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _place(path: str) -> str:
    """The name in a folder without links: two names of one file that does not exist yet are equal."""
    return os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))


def check_output(path: str | os.PathLike[str], *, overwrite: bool, resume: bool = False) -> None:
    """Check that a result can be written, before anything is loaded.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, its folder is missing or cannot be written, another process
        writes it, or an interrupted run has left rows that would be lost.
    """
    name = os.fspath(path)
    _check_file(name, overwrite=overwrite or resume, option="--output")
    for unfinished in unfinished_names(name):
        _require_short(unfinished, "--output")
    check_partial(name + PARTIAL_SUFFIX, overwrite=overwrite, resume=resume)


def _check_file(name: str, *, overwrite: bool, option: str) -> None:
    check_place(name, option)
    if os.path.lexists(name) and not overwrite:
        leads = f", a link to {os.readlink(name)}" if os.path.islink(name) else ""
        raise OutputError(f"{name} exists{leads}. Replace it with --overwrite, or choose another {option}.")


# --- what a result names as its inputs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """An input that a result knows by name and SHA-256: found wherever it was moved to, with the result or without."""

    name: str
    sha256: str

    def is_content_of(self, path: str) -> bool:
        """Whether a file has the name and the content of this input."""
        if os.path.basename(path) != os.path.basename(self.name) or not os.path.isfile(path):
            return False
        try:
            return self.sha256 in (content_sha256(path), file_sha256(path))  # of a FASTA, or of a model or BED
        except OSError:
            return False


def inputs_of_result(path: str, attributes: Mapping[str, Any], sources: Iterable[str] = ()) -> list[str | Recorded]:
    """What no output may replace: a result, files that it reads from, and those that it names as its inputs.

    A relative name is looked up in the folder of the run, that of the result, and this one.

    Parameters
    ----------
    sources : iterable of str
        Shards that an index reads from, relative to its folder.
    """
    own = os.path.dirname(os.path.realpath(path))
    folders = [str(attributes.get("folder") or own), own, os.getcwd()]
    named = [name for name in _named_inputs(attributes) if name not in ("", STDIN)]
    return [
        path,
        *(os.path.join(own, source) for source in sources),
        *(os.path.join(folder, name) for name in named for folder in folders),
        *(Recorded(model.path, model.sha256) for model in _models(attributes) if model.path and model.sha256),
        *(
            Recorded(str(attributes[f"{name}_path"]), str(attributes[f"{name}_sha256"]))
            for name in ("model", "fasta", "bed")
            if attributes.get(f"{name}_path") and attributes.get(f"{name}_sha256")
        ),
    ]


def _models(attributes: Mapping[str, Any]) -> tuple[ModelFile, ...]:
    """The models of a mean."""
    text = attributes.get("averaged")
    return MeanOf.of_json(text).models if text else ()


def _named_inputs(attributes: Mapping[str, Any]) -> list[str]:
    config = json.loads(attributes.get("config") or "{}")
    values = [*(config.get("inputs") or ()), *(config.get("target_names") or ())]
    listed = [*(config.get("custom_objects") or ()), *(config.get("rules") or ())]
    listed += [config.get("weights") or "", config.get("replace_with") or ""]
    paths = [attributes.get(name) or "" for name in ("model_path", "fasta_path", "bed_path")]
    paths += [model.path for model in _models(attributes)]
    return [*map(str, paths), *map(str, listed), *(value for _, value in split_named(values))]


def _require_short(name: str, option: str) -> None:
    try:
        os.lstat(name)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"{option} {brief(name)}: no file can have so long a name. Choose a shorter one."
            ) from error


def require_name(name: str, option: str) -> None:
    """Refuse an empty name, which an unset variable of a shell gives."""
    if not name:
        raise OutputError(f"{option} is empty. Name a file to write.")


def check_place(name: str, option: str) -> None:
    """Refuse a name under which no file can be created.

    Raises
    ------
    OutputError
    """
    require_name(name, option)
    folder = os.path.dirname(name) or "."
    if "\0" in name:
        raise OutputError(f"{option} holds a NUL. Received: {name!r}")
    _require_short(name, option)
    if names_stream(name) or is_pipe(name):
        raise OutputError(f"{option} {name}: this output cannot go to stdout or a pipe. Name a file to write.")
    if os.path.exists(name) and not os.path.isfile(name):
        raise OutputError(f"{name} is a folder or a device. Name a file to write.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{name}: {folder} is no folder. Choose another {option}.")
    if not os.path.isdir(folder):
        raise OutputError(f"{name}: folder {folder} does not exist. Make it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: folder {folder} cannot be written. Choose another {option}.")


def check_partial(partial: str, *, overwrite: bool, resume: bool) -> None:
    """Check that the unfinished file of an earlier run can be continued or replaced."""
    for name in (partial, partial + SUFFIX):  # a pipe would be waited for
        if os.path.lexists(name) and (os.path.islink(name) or not os.path.isfile(name)):
            raise OutputError(
                f"{name} is a link, a folder or a device, and unfinished rows get this name. Move it away, or choose "
                "another --output."
            )
    if is_in_use(partial):
        raise in_use(partial)
    if overwrite or not os.path.exists(partial):
        return
    if not os.path.exists(partial + SUFFIX):
        _check_without_journal(partial)
    checkpoint = read_checkpoint(partial + SUFFIX)
    if checkpoint and checkpoint.rows and not resume:
        raise OutputError(
            f"{partial} holds {checkpoint.rows:,} finished rows of an interrupted run. "
            "Continue it with --resume, or start anew with --overwrite."
        )


def _check_without_journal(partial: str) -> None:
    """Refuse a file that is not what a run leaves before its first checkpoint: bytes that were never written."""
    try:
        with open(partial, "rb") as file:
            begin = file.read(len(HDF5))
    except OSError:
        return  # told when it is opened for writing
    if begin == HDF5:
        raise OutputError(
            f"{partial} cannot be continued without {partial}{SUFFIX}. If it came from another folder, bring both; "
            "else move it away, or replace it with --overwrite."
        )
    if begin.strip(b"\0"):
        raise OutputError(
            f"{partial} is needed for unfinished rows, but is no unfinished result. "
            "Move it away, replace it with --overwrite, or choose another --output."
        )
