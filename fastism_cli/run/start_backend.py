"""Import Keras with its backend, quietly, on the devices of ``--devices``, and keep compiled programs.

TensorFlow (XLA) and JAX each have a cache of compiled programs on disk. This module says where, and removes damaged
files before TensorFlow reads them, as they would end the run.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastism_cli.errors import UsageError, brief, log_of
from fastism_cli.model.quiet import held_back_stderr, log_errors_only
from fastism_cli.options.choices import cache_folder
from fastism_cli.version import __version__

logger = log_of(__name__)

NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}  # of backends


def import_backend(*, verbose: bool = False) -> None:
    """Import Keras with its backend and find the devices.

    TensorFlow logs before its own log level applies, so file descriptor 2 leads to a temporary file for these seconds.
    If the import fails, that file is shown. Later, TensorFlow logs fatal errors only: it logs an error for anything
    unusual in its compile cache, and real failures are exceptions.

    Raises
    ------
    UsageError
        If the backend that ``KERAS_BACKEND`` names does not exist or cannot be imported.
    """
    ignore_settings_of_home()
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if "keras" not in sys.modules:
        logger.info(f"loading {NAMES.get(chosen, chosen)} ...")
    use_compile_cache()
    keep_freed_memory()
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        log_errors_only()
    try:
        with held_back_stderr(show=verbose):
            from fastism_cli.model import backend

            backend.device_kind()
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"Keras cannot be imported with the backend {chosen!r} ({_first_line(error)}). {_other_backend(chosen)}"
        ) from error


def _other_backend(chosen: str) -> str:
    """What to do where a backend cannot be imported."""
    others = [name for name in NAMES if name != chosen and find_spec(name)]
    if not others:
        return f"Install {' or '.join(NAMES)}."
    return f"Choose another that is installed: {' or '.join(f'KERAS_BACKEND={name}' for name in others)}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


# --- what lies in the user's home -------------------------------------------------------------------------------------

# Keras reads keras.json in this folder, and writes one if there is none: nothing can lie or be written in a device.
NO_FOLDER = os.devnull
USUAL_SETTINGS = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
# Variables that only training uses, or that replace the variables of Keras by those of another library.
IGNORED_VARIABLES = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")


def ignore_settings_of_home() -> None:
    """Keep Keras and tf_keras from the ``keras.json`` of the user: a result depends on its command and inputs alone.

    Call it before they are imported. The backend is still that of ``KERAS_BACKEND``. What the file says otherwise than
    the defaults is logged.
    """
    path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
    if said := unusual_settings(path):
        logger.info("%s is not read (it says %s); KERAS_BACKEND chooses the backend", path, said)
    os.environ["KERAS_HOME"] = NO_FOLDER
    for name in IGNORED_VARIABLES:
        os.environ.pop(name, None)


def unusual_settings(path: Path) -> str:
    """What a ``keras.json`` says otherwise than the defaults of Keras, in words; empty if nothing."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return ""
    differing = {name: value for name, value in _mapping(found).items() if USUAL_SETTINGS.get(name, value) != value}
    return ", ".join(f"{name} {value!r}" for name, value in differing.items())


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# TensorFlow's own allocator for processors, and its limit, which is 64 GB unless it is told: memory is the system's to
# refuse.
KEEPS_MEMORY = {"TF_CPU_ALLOCATOR_USE_BFC": "true", "TF_CPU_BFC_MEM_LIMIT_IN_MB": str(2**20)}


def keep_freed_memory() -> None:
    """Have TensorFlow keep the memory of arrays that it frees on a processor. Call it before TensorFlow is imported.

    Otherwise arrays of 32 MB and more go back to the system, and every page of the next one has to be mapped again: 2.4
    microseconds each, on two cores of an AMD EPYC. What the user has set stays.
    """
    for name, value in KEEPS_MEMORY.items():
        os.environ.setdefault(name, value)


SEALS = "sizes.json"
MAX_BYTES = 1_000_000_000
XLA_FLAG = "--tf_xla_persistent_cache_directory"


def use_compile_cache() -> Path | None:
    """Point both backends to the cache. Call it before they are imported.

    Returns
    -------
    Path or None
        TensorFlow's folder. None if the cache is off or cannot be written.
    """
    root = cache_folder()
    if root is None or XLA_FLAG in os.environ.get("TF_XLA_FLAGS", ""):
        return None
    folder = root / "xla" / machine_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unsealed(folder)
        prune(folder)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    os.environ["TF_XLA_FLAGS"] = f"{os.environ.get('TF_XLA_FLAGS', '')} {XLA_FLAG}={_quoted(folder)}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    atexit.register(seal, folder)
    return folder


def _quoted(folder: Path) -> str:
    """A value in TF_XLA_FLAGS, which TensorFlow splits at blanks outside of quotes."""
    text = str(folder)
    if not any(letter.isspace() or letter in "'\"\\" for letter in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def machine_key() -> str:
    """A name that is the same for all machines on which a compiled program runs: from processor and versions."""
    facts = [platform.machine(), *_processor(), __version__]
    for name in ("tensorflow", "keras"):
        try:
            facts.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            facts.append("-")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _processor() -> Iterator[str]:
    """The model and the instructions of the first processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n", 1)[0].splitlines() if path.exists() else [platform.processor()]
    yield from (line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))


# --- complete files only ----------------------------------------------------------------------------------------------


def seal(folder: Path) -> None:
    """Write down the size and checksum of every file of the cache."""
    try:
        seals = _seals(folder)
        found = {path.name: seals.get(path.name) or _sum(path) for path in folder.glob("*.pb")}
        unnamed = folder / f".{SEALS}.{os.getpid()}"
        unnamed.write_text(json.dumps(found))
        unnamed.replace(folder / SEALS)
    except OSError:
        pass  # the next run compiles again


def remove_unsealed(folder: Path) -> None:
    """Remove files that are not in the list of a finished run, or that have changed since."""
    seals = _seals(folder)
    for path in folder.glob("*.pb"):
        if seals.get(path.name) != _sum(path):
            path.unlink(missing_ok=True)


def prune(folder: Path) -> None:
    """Remove the oldest files until the rest takes at most ``MAX_BYTES``."""
    paths = sorted(folder.glob("*.pb"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        if total <= MAX_BYTES:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)


def _seals(folder: Path) -> dict[str, list[int]]:
    try:
        return _mapping(json.loads((folder / SEALS).read_text()))
    except (OSError, ValueError, RecursionError):
        return {}


def _sum(path: Path) -> list[int]:
    data = path.read_bytes()
    return [len(data), zlib.crc32(data)]


# --- --devices -------------------------------------------------------------------------------------------------------

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
