"""A process that makes one try after another, and is killed when one takes too long: C code can spin or crash."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.slow.attack.outcome import RAW, Kind, Outcome

SECONDS = 30.0  # for one try
SECONDS_TO_START = 180.0  # Keras is imported, and the undamaged files are made
MEMORY = 8 << 30  # bytes of data: a damaged number can ask for any
TRIES_OF_A_PROCESS = 1500  # Keras keeps something of every model


def all_kinds() -> dict[str, Kind]:
    """Every kind by its name. Nothing is prepared yet, and Keras is not imported."""
    from tests.slow.attack import annotations, arrays, genomes, models, results, variants

    modules = (genomes, annotations, arrays, results, models, variants)
    return {kind.name: kind for module in modules for kind in module.kinds()}


class Tries:
    """Make tries in this process. A try is known by its kind, seed and number."""

    def __init__(self, kinds: Mapping[str, Kind], folder: Path) -> None:
        self._kinds, self._folder = kinds, folder
        self._prepared: dict[str, Any] = {}

    def prepare(self, name: str) -> None:
        """Make the undamaged files of a kind, once."""
        if name not in self._prepared:
            folder = self._folder / f"{name} undamaged"
            folder.mkdir(parents=True)
            self._prepared[name] = self._kinds[name].prepare(folder)

    def outcome(self, name: str, seed: int, number: int) -> Outcome:
        """One try; its files stay in ``folder_of`` until the next of its kind. An error of the judge is raw, too."""
        self.prepare(name)
        folder = self.folder_of(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return self._kinds[name].attempt(self._prepared[name], random.Random(f"{seed} {name} {number}"), folder)
        except Exception:
            return Outcome(RAW, f"the try itself failed: {traceback.format_exc()[-600:]}")

    def folder_of(self, name: str) -> Path:
        return self._folder / name


class Child:
    """A process for some kinds, which starts again when it was killed.

    Parameters
    ----------
    kinds : callable
        Returns them by name; the process calls it.
    seconds : float
        Time for one try.
    """

    def __init__(
        self, names: Iterable[str], kinds: Callable[[], dict[str, Kind]] = all_kinds, seconds: float = SECONDS
    ) -> None:
        self._names, self._kinds, self._seconds = tuple(names), kinds, seconds
        self._process: Any = None
        self._pipe: Any = None
        self._tries = 0

    def start(self) -> None:
        """Start the process, and make the undamaged files of its kinds: no try pays for it.

        Raises
        ------
        RuntimeError
            If this fails.
        """
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs, self._kinds, self._names), daemon=True)
        self._process.start()
        theirs.close()
        self._tries = 0
        if self._answer(SECONDS_TO_START) is None:
            raise RuntimeError(f"the undamaged files of {', '.join(self._names)} cannot be made (status {self.stop()})")

    def outcome(self, name: str, seed: int, number: int) -> Outcome:
        """One try, in the process."""
        if self._process is None or self._tries >= TRIES_OF_A_PROCESS:
            self.stop()
            self.start()
        self._tries += 1
        self._pipe.send((name, seed, number))
        found = self._answer(self._seconds)
        if found is None:
            code = self.stop()
            return Outcome(
                RAW, f"the process ended with status {code}" if code else f"no end after {self._seconds:.0f} s"
            )
        return Outcome(*found)

    def stop(self) -> int | None:
        """End the process; its exit status if it had ended by itself."""
        if self._process is None:
            return None
        self._process.join(0.2)
        code = self._process.exitcode
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process = None
        return code

    def _answer(self, seconds: float) -> Any:
        """What the process says, or None if it says nothing in time or has ended."""
        try:
            return self._pipe.recv() if self._pipe.poll(seconds) else None
        except (EOFError, OSError):
            return None


def serve(pipe: Connection, kinds: Callable[[], dict[str, Kind]], names: Iterable[str]) -> None:
    """The process: make tries as they are asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with quiet(), tempfile.TemporaryDirectory(prefix="attack-") as folder:
        tries = Tries(kinds(), Path(folder))
        for name in names:
            tries.prepare(name)
        pipe.send("ready")
        while True:
            try:
                name, seed, number = pipe.recv()
            except EOFError:
                return
            pipe.send(tuple(tries.outcome(name, seed, number)))


@contextmanager
def quiet() -> Any:
    """No index in the user's cache, no device but the CPU, and nothing said by libraries in C or Python."""
    os.environ |= {"FASTISM_CACHE": "off", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
