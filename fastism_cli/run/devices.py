"""``--devices``: find the GPUs without loading a backend, and show a process only one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from fastism_cli.errors import UsageError
from fastism_cli.options.problems import brief

CPU = "cpu"
GIVEN = "FASTISM_DEVICE"  # tells a process which device it was given


def parse_devices(asked: str | None) -> list[str]:
    """Make a list of ``"all"``, ``"0,1"`` or ``"cpu,cpu"``; an empty one of None.

    Raises
    ------
    UsageError
        If a name is empty.
    """
    if asked is None:
        return []
    if asked == "all":
        return visible_gpus() or [CPU]
    names = [name.strip() for name in asked.split(",")]
    if not all(names):
        raise UsageError(f"--devices is all, or a list such as 0,1. Received: {brief(asked)!r}")
    return names


def visible_gpus() -> list[str]:
    """List the GPUs that a scheduler shows to this process, or else those that the driver lists."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name for name in allowed.split(",") if name not in ("", "-1", "NoDevFiles")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def environment(device: str) -> Mapping[str, str]:
    """Environment variables that show a process only this device."""
    if device == CPU:
        return {GIVEN: device, "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {GIVEN: device, "CUDA_VISIBLE_DEVICES": device}


def require_device(found: str) -> None:
    """Check that a process that was given a GPU computes on it.

    Parameters
    ----------
    found : "gpu" or "cpu"
        What the backend computes on.

    Raises
    ------
    UsageError
        If this process was given a GPU and the backend found none.
    """
    given = os.environ.get(GIVEN, CPU)
    if given != CPU and found == "cpu":
        raise UsageError(
            f"--devices {given}: the backend finds no such GPU. See nvidia-smi -L, and whether the backend was "
            "installed for GPUs: pip install 'fastism-cli[cuda]'."
        )
