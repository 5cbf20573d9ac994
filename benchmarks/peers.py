"""Other programs, each in a process of its own: ``python -m benchmarks.peers NAME``, JSON lines in and out.

They live in an environment of their own (``make peers``), never among the tool's dependencies. A request names a model
and is answered by seconds for all substitutions of one sequence, or by what failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

LETTERS = 4
SHARE = 50  # positions of fastISM that are timed
BATCH_SIZES = (32, 128, 512)  # of tangermeme: changed sequences in one call


class FastISMPeer:
    """The fastISM package 0.5.1 on Keras 2: one call replaces every position by a given base."""

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import fastism
        import tf_keras

        from benchmarks.models import MODELS

        built = MODELS[model](length, k=tf_keras)
        built.set_weights(arrays_of(weights))
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


class FastISMUse:
    """One documented way to use the package (:mod:`benchmarks.fastism_uses`). Its predictions go to a file, once.

    Nobody times them. An array for each call and output is named "CALL/OUTPUT", (n, ranges, *shape).
    """

    def __init__(self, use: str, weights: str, inputs: str, outputs: str) -> None:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import fastism
        import fastism.fast_ism_utils
        import tensorflow as tf
        import tf_keras

        from benchmarks.fastism_uses import USES

        self.use = USES[use]
        model = self.use.build(tf_keras)
        model.set_weights(arrays_of(weights))
        arrays = [tf.constant(x) for x in arrays_of(inputs)]
        self.inputs = arrays if len(arrays) > 1 else arrays[0]
        for table, name in self.use.registered.items():
            getattr(fastism.fast_ism_utils, table).add(name)
        given = {"seq_input_idx": self.use.sequence, "change_ranges": self.use.ranges, **self.use.options}
        make = fastism.NaiveISM if self.use.is_naive else partial(fastism.FastISM, test_correctness=False)
        self.engine = make(model, **given)
        called = [self.engine(self.inputs, replace_with=content) for content in self.use.calls]
        by_output = [found if isinstance(found, list) else [found] for found in called]
        named = {f"{i}/{j}": x for i, found in enumerate(by_output) for j, x in enumerate(found)}
        np.savez(outputs, **named)

    def seconds(self) -> float:
        return 0.0


class Tangermeme:
    """Saturation mutagenesis of tangermeme 1.6 on PyTorch, which computes what changes alone (``fast=True``).

    By itself it does so for jobs above half a minute, and here for all.
    """

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        import torch
        import torch._dynamo  # loads Triton, whose LLVM crashes where TensorFlow was loaded before

        from benchmarks.models import random_one_hot
        from benchmarks.torch_models import torch_model

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.tangermeme = import_module("tangermeme.saturation_mutagenesis")
        self.tangermeme._FAST_MIN_SECONDS = 0
        self.model = torch_model(model, arrays_of(weights))
        self.x = torch.tensor(random_one_hot(batch, length).transpose(0, 2, 1))

    def predictions(self, batch_size: int, sequences: int) -> np.ndarray:
        """Of the first sequences, (n, letters, L, T)."""
        options = {"fast": True, "raw_outputs": True, "batch_size": batch_size, "device": "cpu"}
        return self.tangermeme.saturation_mutagenesis(self.model, self.x[:sequences], **options).y_hat.numpy()


class TangermemePeer(Tangermeme):
    """``batch_size``, the changed sequences of one call, is the fastest of some for one sequence."""

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        super().__init__(model, length, batch, weights)
        spent = {size: self.timed(size, 1) for size in BATCH_SIZES}
        self.batch_size = min(spent, key=spent.__getitem__)
        self.facts = {"batch_size": self.batch_size}

    def timed(self, batch_size: int, sequences: int) -> float:
        began = time.perf_counter()
        self.predictions(batch_size, sequences)
        return time.perf_counter() - began

    def seconds(self) -> float:
        return self.timed(self.batch_size, len(self.x)) / len(self.x)


class TangermemeAnswers(Tangermeme):
    """Its predictions go to a file, as ``predictions``, once: those of its fast way, however long that takes."""

    def __init__(self, model: str, length: int, batch: int, weights: str, outputs: str) -> None:
        super().__init__(model, length, batch, weights)
        self.tangermeme._FAST_MAX_RELATIVE_TIME = np.inf
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="saturation_mutagenesis is using fast=False")
            np.savez(outputs, predictions=self.predictions(BATCH_SIZES[0], batch))

    def seconds(self) -> float:
        return 0.0


class YuzuPeer:
    """yuzu on PyTorch. ``facts["error"]``: largest difference to plain predictions, as a share of the largest score."""

    def __init__(self, model: str, length: int, batch: int, weights: str) -> None:
        import torch
        from yuzu import naive_ism, precompute

        from benchmarks.models import random_one_hot
        from benchmarks.torch_models import yuzu_model

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model = yuzu_model(model, arrays_of(weights))
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


PEERS: dict[str, Callable[..., Any]] = {
    "fastism": FastISMPeer,
    "uses": FastISMUse,
    "tangermeme": TangermemePeer,
    "tangermeme-answers": TangermemeAnswers,
    "yuzu": YuzuPeer,
}


def arrays_of(path: str) -> list[np.ndarray]:
    """The arrays of an .npz, in their order."""
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


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
