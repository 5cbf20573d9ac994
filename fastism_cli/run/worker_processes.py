"""Score on several devices: one worker process on each, and their results joined into one.

Each worker scores a range of the rows. Its result, ``OUT.part-0-of-2``, is a file like that of a shard, and can be
resumed like one. This process never loads a backend, because a backend takes memory of the devices.
"""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from typing import Any

from fastism_cli.errors import FastISMError, OutputError, UsageError, log_of
from fastism_cli.options.choices import Shard
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.crash_safe_file import read_checkpoint
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.merge_shards import join, part_attributes, parts_of
from fastism_cli.results.outputs import unfinished_names
from fastism_cli.results.schema import PARTIAL_SUFFIX, Status
from fastism_cli.run.request import RunInputs, RunRequest, check_run, may_replace
from fastism_cli.run.score_regions import finished_before, score_request
from fastism_cli.run.start_backend import environment, parse_devices
from fastism_cli.run.summary import Progress, RunSummary, write_summary

logger = log_of(__name__)

SECONDS_TO_END = 60.0  # that workers have to save their rows


class WorkerError(FastISMError, RuntimeError):
    """A worker process ended too early; its own message says why."""


def score_on_devices(
    model: Any,
    bed: str | None,
    fasta: str,
    output: str | None = None,
    options: RunOptions | None = None,
    *,
    command: str = "",
    progress: Progress | None = None,
) -> RunSummary:
    """Score like :func:`fastism_cli.run.score_regions.score_regions`, on the devices that ``options.devices`` names.

    With fewer than two devices the work is done in this process; with more, by a worker process on each.

    Parameters
    ----------
    command : str
        The command line, which the result file keeps.

    Raises
    ------
    WorkerError
        If a worker failed. The others are stopped, and all rows so far are kept for ``resume``.
    """
    request = RunRequest.of(model, bed, fasta, output, options, command=command)
    devices = parse_devices(request.options.devices)
    if request.options.resume:
        _tell_other_parts(request.output, len(devices))
    if len(devices) < 2:
        for device in devices:
            os.environ.update(environment(device))
        return score_request(request, progress)
    if any(model.path is None for model in request.models):
        raise UsageError("--devices needs the path of a model: every worker loads its own.")
    with ExitStack() as stack:
        inputs = check_run(stack, request)
        summary = finished_before(request, inputs) or _score(request, inputs, devices)
    if path := request.options.summary:
        write_summary(path, summary, overwrite=may_replace(path, request))
    return summary


def _score(request: RunRequest, inputs: RunInputs, devices: Sequence[str]) -> RunSummary:
    started = time.monotonic()
    _refuse_rows_of_one_process(inputs.output, overwrite=request.options.overwrite)
    parts = [f"{inputs.output}.part-{i}-of-{len(devices)}" for i in range(len(devices))]
    specs = [_spec(request, inputs, part, Shard(i, len(devices))) for i, part in enumerate(parts)]
    try:
        _run([_start(spec, device) for spec, device in zip(specs, devices, strict=True)], devices)
    except BaseException:
        _report_finished(parts)
        raise
    inputs.watch.check()
    files = parts_of(parts)
    attributes = part_attributes(files) | {"bed_path": inputs.attributes["bed_path"]}  # stdin, and not its copy
    n = join(files, inputs.output, attributes, virtual=False, overwrite=request.options.overwrite)
    with read_result(inputs.output) as file:
        statuses = Counter(Status(int(s)) for s in file.regions["status"])
        clipped = int(file.attrs["n_clipped"])
    summaries = [_take_summary(part) for part in parts]
    for part in parts:
        os.unlink(part)
    return RunSummary(
        inputs.output,
        n,
        sum(worker["substitutions"] for worker in summaries),
        time.monotonic() - started,
        statuses,
        sum(worker["resumed_regions"] for worker in summaries),
        clipped,
        max(worker["longer_than_input"] for worker in summaries),
        {"engine": sum(worker["seconds_by_step"].get("engine", 0.0) for worker in summaries) / len(summaries)},
        sum(worker["substitutions_per_second"] for worker in summaries),
        {
            "engine": summaries[0].get("engine"),
            "devices": [{"device": device, **worker} for device, worker in zip(devices, summaries, strict=True)],
        },
        request.options.what_is_scored,
    )


def _tell_other_parts(output: str, n_devices: int) -> None:
    """Warn of rows that are not continued, because they were scored on another number of devices."""
    parts = (name.removesuffix(PARTIAL_SUFFIX) for name in glob.glob(f"{glob.escape(output)}.part-*-of-*"))
    counts = {part.rpartition("-of-")[2] for part in parts} - {str(n_devices)}
    for count in sorted(filter(str.isdigit, counts), key=int):
        logger.warning(
            f"{output}.part-*-of-{count} are of a run on {count} devices, and are not continued by one on "
            f"{max(n_devices, 1)}. Remove them, or name {count} devices."
        )


def _refuse_rows_of_one_process(output: str, *, overwrite: bool) -> None:
    """Refuse rows that no worker can go on with, before all work is done."""
    partial, journal, _ = unfinished_names(output)
    checkpoint = None if overwrite else read_checkpoint(journal)
    if checkpoint and checkpoint.rows:
        raise OutputError(
            f"{partial} holds {checkpoint.rows:,} finished rows of a run on one device. Continue it with --resume and "
            "without --devices, or start anew with --overwrite."
        )


def _report_finished(parts: Sequence[str]) -> None:
    """Say which workers are done; those that are not say themselves what they keep."""
    if finished := [part for part in parts if os.path.exists(part)]:
        verb = "is" if len(finished) == 1 else "are"
        logger.warning(f"{', '.join(finished)} {verb} kept: run again with --resume to continue")


def _spec(request: RunRequest, inputs: RunInputs, part: str, rows: Shard) -> dict[str, Any]:
    """The request for a worker, with its rows and its output, as JSON that :func:`score_spec` reads."""
    return {
        "model": [model.path for model in request.models],
        "bed": inputs.bed.path,
        "fasta": inputs.genome.path,
        "output": part,
        "options": asdict(replace(request.options, devices=None, summary=f"{part}.json")),
        "command": request.command,
        "device_rows": asdict(rows),
    }


def score_spec(spec: dict[str, Any], progress: Progress) -> RunSummary:
    """Score the rows of one worker, in that worker's process."""
    options, rows = RunOptions(**spec.pop("options")), Shard(**spec.pop("device_rows"))
    return score_request(RunRequest.of(**spec, options=options, device_rows=rows), progress)


def _start(spec: dict[str, Any], device: str) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "fastism_cli.cli.worker"],
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment(device)},
    )
    assert worker.stdin is not None
    with suppress(BrokenPipeError), worker.stdin:
        json.dump(spec, worker.stdin)
    return worker


def _run(workers: Sequence[subprocess.Popen[str]], devices: Sequence[str]) -> None:
    """Wait for all workers. When one fails, or on a signal, stop the others; they save their rows."""
    try:
        while any(worker.poll() is None for worker in workers):
            _raise_if_failed(workers, devices)
            time.sleep(0.1)
        _raise_if_failed(workers, devices)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            _wait(worker)


def _wait(worker: subprocess.Popen[str]) -> None:
    try:
        worker.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _raise_if_failed(workers: Sequence[subprocess.Popen[str]], devices: Sequence[str]) -> None:
    for worker, device in zip(workers, devices, strict=True):
        if worker.poll():
            error = WorkerError(f"the worker on device {device} ended with status {worker.returncode}: see above")
            error.exit_code = 2 if worker.returncode == 2 else 1
            raise error


def _take_summary(part: str) -> dict[str, Any]:
    """Read the summary of a worker, and remove its file."""
    path = f"{part}.json"
    with open(path) as file:
        summary: dict[str, Any] = json.load(file)
    os.unlink(path)
    return summary
