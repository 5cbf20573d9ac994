"""What ``fastism inspect`` says: why a node is opaque in the user's words, and what it would save if it were fast."""

import json
from dataclasses import asdict

import keras
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.cli.inspect import text
from fastism_cli.engine.inspection import Inspection, inspect_scorer
from fastism_cli.model import backend
from tests.models.zoo.blocks import conv, dna

LENGTH = 200


def opaque(name):
    """A layer that has no rule, and no multiply-adds."""
    return layers.GroupNormalization(1, name=name)


def seen(block) -> Inspection:
    """inp -> C -> block -> C -> GAP -> D"""
    inp = dna(LENGTH)
    x = conv(block(conv(inp, 16, 7)), 16, 9)
    return inspect_scorer(FastISM(keras.Model(inp, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))))


def node(found: Inspection, name: str):
    return next(report for report in found.nodes if report.name == name)


def test_the_estimate_with_a_node_as_if_it_were_fast():
    """It is that of the model in which the node is fast."""
    supposed, fast = seen(opaque(name="own")), seen(layers.Activation("tanh"))
    assert node(supposed, "own").state == "opaque"
    assert supposed.speedup < 2 < fast.speedup
    assert node(supposed, "own").speedup_if_fast == pytest.approx(fast.speedup, rel=0.05)
    assert supposed.speedup_if_all_fast == pytest.approx(fast.speedup, rel=0.05)
    assert fast.speedup_if_all_fast is None


def test_an_opaque_node_that_shortens_groups_of_positions():
    """Its output's positions do not count those of its input, whose groups are taken apart again before it."""
    found = seen(
        lambda x: layers.Reshape((LENGTH - 4, 16))(
            layers.Resizing(LENGTH // 4 - 1, 4, name="own")(layers.Reshape((LENGTH // 4, 4, 16))(x))
        )
    )
    assert node(found, "own").state == "opaque"
    assert found.speedup < found.speedup_if_all_fast


def test_an_opaque_node_that_gives_one_value_for_each_sequence():
    """Such as a switch, which is a number without axes."""
    inp = dna(LENGTH)
    is_on = ops.any(ops.greater(inp, 1e9), axis=(1, 2))
    x = ops.where(ops.reshape(is_on, (-1, 1, 1)), ops.flip(conv(inp, 8, 7), axis=1), conv(inp, 8, 7))
    found = inspect_scorer(FastISM(keras.Model(inp, layers.Dense(1)(layers.Flatten()(x)))))
    assert any(report.state == "opaque" for report in found.nodes)
    assert found.speedup_if_all_fast is not None


def test_nodes_that_are_opaque_behind_another():
    """The second is hidden by the first: it alone saves little, and both are named."""
    found = seen(lambda x: opaque(name="second")(conv(opaque(name="first")(x), 16, 3)))
    first, second = node(found, "first"), node(found, "second")
    assert (first.state, second.state) == ("opaque", "whole") and second.reason == first.reason.replace(
        "first", "second"
    )
    assert second.speedup_if_fast is None
    assert first.speedup_if_fast < 0.5 * found.speedup_if_all_fast
    assert sum("second" in line for line in text(found)) == 2


def test_a_gate():
    """Squeeze and excite: nothing is opaque, and yet all positions change."""

    def gated(x):
        gate = layers.Dense(16, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
        return layers.Multiply(name="gated")([x, layers.Reshape((1, 16))(gate)])

    found = seen(gated)
    assert "depends on all positions" in node(found, "gated").reason
    assert any("depends on all positions" in line for line in text(found))


def test_a_sum_behind_what_is_opaque_has_no_reason_of_its_own():
    found = seen(lambda x: layers.Add(name="sum")([x, opaque(name="own")(x)]))
    assert node(found, "own").reason and node(found, "sum").reason is None


MIXING = {
    "attention": lambda x: layers.MultiHeadAttention(2, 4)(x, x),
    "normalised": lambda x: layers.GroupNormalization(4)(x),
    "running": lambda x: ops.flip(ops.sort(x, axis=1), axis=1),
}


@pytest.mark.parametrize("name", MIXING)
def test_it_speaks_of_the_users_model(name):
    found = seen(MIXING[name])
    lines = text(found)
    assert any("with it fast: " in line for line in lines)
    assert not [line for line in lines if "no rule for" in line or "Borrowed" in line or "Supposed" in line]
    json.dumps(asdict(found))


@pytest.mark.skipif(backend.BACKEND != "tensorflow", reason="models of Keras 2 need TensorFlow")
def test_layers_and_functions_of_keras_2_have_their_own_names():
    import tensorflow as tf
    import tf_keras

    class Bessel(tf_keras.layers.Layer):
        def call(self, x):
            return tf.math.bessel_i0(x)

    inp = tf_keras.Input((LENGTH, 4))
    x = tf.math.bessel_i1(Bessel(name="own")(tf_keras.layers.Conv1D(8, 5)(inp)))
    model = tf_keras.Model(inp, tf_keras.layers.Dense(1)(tf_keras.layers.GlobalAveragePooling1D()(x)))
    found = inspect_scorer(FastISM(model))
    assert node(found, "own").class_name == "Bessel" and "Keras 2" in node(found, "own").reason
    assert any(report.class_name == "tf.math.bessel_i1" for report in found.nodes)
    assert "Borrowed" not in "\n".join(text(found))


def test_a_block_is_planned_as_wide_as_it_is():
    """The estimate is that of the block engine, and so is that of a node as if it were fast."""
    inp = dna(LENGTH)
    models = [
        keras.Model(inp, layers.Dense(1)(layers.GlobalAveragePooling1D()(conv(block(conv(inp, 16, 7)), 16, 9))))
        for block in (layers.Activation("tanh"), opaque(name="own"))
    ]
    letters, fast, supposed = (
        inspect_scorer(FastISM(model, **options))
        for model, options in (
            (models[0], {}),
            (models[0], {"replace_with": "N", "width": 40, "step": 5}),
            (models[1], {"replace_with": "N", "width": 40, "step": 5}),
        )
    )
    first = fast.nodes[0]
    assert first.width == 46 and letters.nodes[0].width == 7
    assert fast.multiply_adds > 4 * letters.multiply_adds and fast.limit < letters.limit / 4
    assert "multiply-adds of one block of 40 bases" in "\n".join(text(fast))
    assert "multiply-adds of one substitution" in "\n".join(text(letters))
    assert node(supposed, "own").speedup_if_fast == pytest.approx(fast.speedup, rel=0.05)
