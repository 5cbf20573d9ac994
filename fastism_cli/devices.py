"""``--devices``: which GPUs there are, found without loading a backend, and how a process is given one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from fastism_cli.errors import UsageError

CPU = "cpu"


def parse_devices(asked: str | None) -> list[str]:
    """``"all"`` or ``"0,1"`` or ``"cpu,cpu"`` as a list; none asked for is none.

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
        raise UsageError(f"--devices is all, or a list such as 0,1. Received: {asked!r}")
    return names


def visible_gpus() -> list[str]:
    """What a scheduler lets this process see, else what the driver lists."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name for name in allowed.split(",") if name not in ("", "-1", "NoDevFiles")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def environment(device: str) -> Mapping[str, str]:
    """Variables that show a process this device alone."""
    if device == CPU:
        return {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {"CUDA_VISIBLE_DEVICES": device}
