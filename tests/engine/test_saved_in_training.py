"""``training=True`` in a model: it is run at inference and the log says which layers, or it is refused by a name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import ModelError
from fastism_cli.run.score_regions import score_regions
from tests.helpers.model_files import FILE_WARNINGS
from tests.helpers.small_run import make_folder

pytestmark = [*FILE_WARNINGS, pytest.mark.one_in(2)]

LENGTH = 24


def one_hot(n: int = 3) -> np.ndarray:
    return np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (n, LENGTH))]


def with_layer(package: Any, *layers: Any, **arguments: Any) -> Any:
    """x -> C -> the layers, called with ``arguments`` -> flatten -> y."""
    package.utils.set_random_seed(1)
    x = inputs = package.Input((LENGTH, 4), name="seq")
    x = package.layers.Conv1D(6, 5, activation="relu")(x)
    for layer in layers:
        x = layer(x, **arguments)
    return package.Model(inputs, package.layers.Dense(2, name="out")(package.layers.Flatten()(x)))


def random_and_batch(package: Any) -> list[Any]:
    tower = package.Sequential([package.Input((LENGTH - 4, 6)), package.layers.GaussianNoise(1.0)], name="tower")
    return [
        package.layers.Dropout(0.4, name="mc_dropout"),
        package.layers.BatchNormalization(name="batch_stats"),
        tower,
    ]


def mc_dropout(package: Any) -> type:
    """The usual subclass: a Dropout that always drops."""

    class MCDropout(package.layers.Dropout):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs, training=True)

    return MCDropout


def passing_on(package: Any) -> type:
    """A layer of one's own, whose layers are called with training=True."""

    class PassingOn(package.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.drop = package.layers.Dropout(0.5, name="inner_drop")
            self.norm = package.layers.BatchNormalization(name="inner_norm")

        def call(self, x: Any) -> Any:
            return self.norm(self.drop(x, training=True), training=True)

    return PassingOn


def assert_at_inference(model: Any, wanted: np.ndarray, names: set[str]) -> None:
    """The same predictions and deltas in two runs and two sizes of batch, and the names of the layers."""
    first, again = (FastISM(model, engine="naive", batch_size=size) for size in (9, 60))
    a, b = (scorer(one_hot(), positions=[0, 10, LENGTH - 1]) for scorer in (first, again))
    assert set(first.prepared.in_training) == names
    np.testing.assert_allclose(a.delta["out"], b.delta["out"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(a.reference["out"], wanted, rtol=0, atol=1e-5)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("package, ending", [(keras, ".keras"), (tf_keras, ".h5"), (tf_keras, ""), (tf_keras, None)])
def test_every_format_is_run_at_inference(package, ending, tmp_path, caplog):
    model = with_layer(package, *random_and_batch(package), training=True)
    without = with_layer(package, *random_and_batch(package))
    without.set_weights(model.get_weights())
    path = tmp_path / f"m{ending}"
    if ending is not None:
        model.save(path)
    names = {"mc_dropout", "batch_stats", "tower"}
    assert_at_inference(model if ending is None else path, np.asarray(without(one_hot(), training=False)), names)
    line = "'mc_dropout', 'batch_stats', 'tower' were saved with training=True; they are run with training=False"
    assert line in caplog.messages


@pytest.mark.parametrize("package", [keras, tf_keras])
@pytest.mark.parametrize("build", [mc_dropout, passing_on])
def test_code_that_passes_training_on_is_run_at_inference(package, build):
    cls = build(package)
    layer = cls(0.4, name="mc") if build is mc_dropout else cls(name="own")
    model = with_layer(package, layer)
    calls = {base: vars(base).get("call") for base in type(layer).__mro__}
    identity = with_layer(package, *([] if build is mc_dropout else [package.layers.BatchNormalization()]))
    identity.set_weights(model.get_weights())
    names = {"mc"} if build is mc_dropout else {"inner_drop", "inner_norm"}
    assert_at_inference(model, np.asarray(identity(one_hot(), training=False)), names)
    assert {base: vars(base).get("call") for base in type(layer).__mro__} == calls  # Keras is as it was


def test_a_saved_model_whose_class_is_unknown_is_refused_by_name(tmp_path):
    with_layer(tf_keras, mc_dropout(tf_keras)(0.4, name="mc")).save(tmp_path / "m")
    with pytest.raises(ModelError, match=r"draws random numbers, in .*RandomUniform \(kept as graphs: 'mc'\)"):
        verify(FastISM(tmp_path / "m"), one_hot(1))


class Served(tf.Module):
    """A graph for serving with a dropout, or a normalisation by the batch, that nothing can switch off."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.kernel = tf.Variable(np.random.default_rng(1).normal(size=(5, 4, 8)).astype("float32"))

    def run(self, dna: Any) -> Any:
        y = tf.nn.conv1d(dna, self.kernel, 1, "SAME")
        if self.kind == "dropout":
            with tf.name_scope("mc_dropout"):
                y = tf.nn.dropout(y, 0.3)
        elif self.kind == "fused":
            y = tf.compat.v1.nn.fused_batch_norm(y[:, None], tf.ones(8), tf.zeros(8), name="norm_1")[0][:, 0]
        else:
            y = y - tf.reduce_mean(y, axis=[0, 1])
        return {"out": tf.reduce_max(y, axis=1)}


@pytest.mark.parametrize(
    "kind, said",
    [
        ("dropout", "draws random numbers, in mc_dropout/dropout"),
        ("fused", "uses the statistics of the batch, in norm_1"),
        ("mean", "uses the statistics of the batch"),
    ],
)
def test_what_is_frozen_in_a_graph_is_refused_by_name(kind, said, tmp_path):
    module = Served(kind)
    call = tf.function(module.run).get_concrete_function(tf.TensorSpec((None, LENGTH, 4), "float32", name="dna"))
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=call)
    with pytest.raises(ModelError, match=said):
        verify(FastISM(tmp_path / "m"), one_hot(1))


def test_a_layer_that_draws_without_being_told_is_refused_by_name():
    class Sampling(keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.seed = keras.random.SeedGenerator(1)

        def call(self, x: Any) -> Any:
            return x + 0.1 * keras.random.normal(keras.ops.shape(x), seed=self.seed)

    with pytest.raises(ModelError, match=r"layer 'sampler' \(Sampling\) gives other values at each call"):
        verify(FastISM(with_layer(keras, Sampling(name="sampler"))), one_hot(1))


def test_the_result_keeps_the_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    folder = make_folder(tmp_path)
    model = with_layer(keras, keras.layers.Dropout(0.3, name="mc_dropout"), training=True)
    score_regions(model, folder.bed, folder.fasta, str(tmp_path / "o.h5"))
    with h5py.File(tmp_path / "o.h5") as file:
        assert file.attrs["run_at_inference"] == "mc_dropout"
    assert "'mc_dropout' was saved with training=True; it is run with training=False" in caplog.messages
