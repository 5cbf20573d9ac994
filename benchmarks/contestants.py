"""What the engine is timed against: Keras' own ``predict`` in a loop, gradients, and the programs of others."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastism_cli.model import backend

Answer = dict[str, Any]
STEPS = 50
PREDICTED = 10  # positions that the loop over ``predict`` is timed on


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def predict_runner(model: Any, x: np.ndarray) -> Callable[[], Answer]:
    """As a user would write it: for every position, ``model.predict`` of its three substitutions."""

    def one(position: int) -> None:
        rows = np.repeat(x, 3, axis=0)
        rows[:, position] = np.delete(np.eye(4, dtype="float32"), x[0, position].argmax(), axis=0)
        model.predict(rows, verbose=0)

    def run() -> Answer:
        one(0)
        spent = seconds(lambda: [one(position) for position in range(PREDICTED)])
        return {"seconds": spent * x.shape[1] / PREDICTED}

    return run


def gradient_runners(model: Any, x: np.ndarray, reduce: dict[str, str] | None) -> dict[str, Callable[[], Answer]]:
    """Input x gradient, and integrated gradients of 50 steps, of the sum of the heads: approximations, not ISM."""
    if backend.BACKEND != "tensorflow":
        return {}
    import tensorflow as tf

    @tf.function
    def gradient(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(batch)
            total = tf.add_n([tf.reduce_sum(y) for y in tf.nest.flatten(model(batch, training=False))])
        return tape.gradient(total, batch)

    steps = x * (np.arange(1, STEPS + 1, dtype="float32") / STEPS)[:, None, None]
    batches = {"input x gradient": tf.constant(x), f"integrated gradients ({STEPS})": tf.constant(steps)}

    def run(batch: Any) -> Answer:
        gradient(batch)
        return {"seconds": seconds(lambda: gradient(batch).numpy())}

    return {name: partial(run, batch) for name, batch in batches.items()}


class Peer:
    """Another program in a process of its own (:mod:`benchmarks.peers`).

    One that does not answer within ``patience`` seconds is ended, and started again for the next request.
    """

    def __init__(self, name: str, python: str, patience: float | None = None) -> None:
        self.name, self.patience = name, patience
        self.folder = tempfile.TemporaryDirectory()
        self.log = (Path(self.folder.name) / "log").open("w")
        self.command = [python, "-m", "benchmarks.peers", name]
        self.process = self.started()

    def started(self) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        return subprocess.Popen(self.command, text=True, **pipes)

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def close(self) -> None:
        self.end()
        self.log.close()
        self.folder.cleanup()

    def runner(self, model: Any, length: int, batch: int) -> Callable[[], Answer]:
        weights = str(Path(self.folder.name) / f"{model.name}_{length}.npz")
        np.savez(weights, *model.get_weights())
        return partial(self.ask, {"model": model.name, "length": length, "batch": batch, "weights": weights})

    def ask(self, request: dict[str, Any]) -> Answer:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], self.patience)[0]:
                self.end()
                self.process = self.started()
                return {"failed": f"no answer within {self.patience:g} s"}
            answer = self.process.stdout.readline()
        except BrokenPipeError:  # it ended before this request
            answer = ""
        return json.loads(answer) if answer else {"failed": "its process ended"}
