"""Other programs, each in a process of its own: ``python -m benchmarks.peers fastism|yuzu``, JSON lines in and out.

They live in an environment of their own (``make peers``), never among the tool's dependencies. A request names a model
and is answered by seconds for all substitutions of one sequence, or by what failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LETTERS = 4
SHARE = 50  # positions of fastISM that are timed


class FastISMPeer:
    """The fastISM package 0.5.1 on Keras 2: one call replaces every position by a given base."""

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import fastism
        import tf_keras

        from benchmarks.models import MODELS

        built = MODELS[model](length, k=tf_keras)
        with np.load(weights) as arrays:
            built.set_weights([arrays[name] for name in arrays.files])
        self.positions = range(length // (2 * SHARE), length, length // SHARE)
        ranges = [(position, position + 1) for position in self.positions]
        self.engine = fastism.FastISM(built, change_ranges=ranges, test_correctness=False)
        self.batch, self.length = batch, length

    def seconds(self) -> float:
        """Three calls score the three substitutions of every position; one is timed, on ``batch`` sequences at once.

        A share of the positions, evenly spread, is scored and the time scaled up: its loop over them is in Python.
        """
        from benchmarks.models import random_one_hot

        x = random_one_hot(self.batch, self.length)
        began = time.perf_counter()
        self.engine(x, replace_with=[1, 0, 0, 0])
        return 3 * (time.perf_counter() - began) / self.batch * self.length / len(self.positions)


class YuzuPeer:
    """yuzu on PyTorch. ``facts["error"]``: largest difference to plain predictions, as a share of the largest score."""

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        import torch
        from yuzu import naive_ism, precompute

        from benchmarks.models import random_one_hot
        from benchmarks.torch_models import torch_model

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        with np.load(weights) as arrays:
            self.model = torch_model(model, length, [arrays[name] for name in arrays.files]).eval()
        self.x = np.ascontiguousarray(random_one_hot(batch, length).transpose(0, 2, 1))
        self.prepared = precompute(self.model, length, LETTERS, random_state=0)
        truth = np.asarray(naive_ism(self.model, self.x[:1]))
        error = np.abs(np.asarray(self.scores())[:1] - truth).max() / np.abs(truth).max()
        self.facts = {"error": float(error)}

    def scores(self) -> np.ndarray:
        from yuzu import yuzu_ism

        return yuzu_ism(self.model, self.x, self.prepared)

    def seconds(self) -> float:
        began = time.perf_counter()
        self.scores()
        return (time.perf_counter() - began) / len(self.x)


PEERS: dict[str, Callable[..., Any]] = {"fastism": FastISMPeer, "yuzu": YuzuPeer}


def serve(peer: str) -> None:
    """Answer requests until the input ends; what the packages print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made: dict[str, Any] = {}
    for line in sys.stdin:
        if line not in made:
            made[line] = ready(peer, json.loads(line))
        print(json.dumps(answer(made[line])), file=answers, flush=True)


def ready(peer: str, request: dict[str, Any]) -> Any:
    """The peer after one call to warm up, or the exception that came of it."""
    try:
        found = PEERS[peer](**request)
        found.seconds()
    except Exception as error:
        return error
    return found


def answer(peer: Any) -> dict[str, Any]:
    if isinstance(peer, Exception):
        return {"failed": f"{type(peer).__name__}: {(str(peer) or '-').splitlines()[0]}"}
    return {"seconds": peer.seconds(), **getattr(peer, "facts", {})}


if __name__ == "__main__":
    serve(sys.argv[1])
