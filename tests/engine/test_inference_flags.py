"""Layers that only augment in training are the identity, also if they pass on a flag; ensembles of both strands.

The models are written as those of Basenji and Akita are: layers of one's own with functions of TensorFlow, a flag that
says whether the strand was turned, and a last layer that turns the prediction back.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM, load_model
from fastism_cli.engine.inspection import Inspection, inspect_scorer
from fastism_cli.model import backend
from fastism_cli.model.loading.load import in_keras3
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.blocks import dna
from tests.models.zoo.registry import randomise

pytestmark = pytest.mark.one_in(2)

LENGTH = 128
on_tensorflow = pytest.mark.skipif(backend.BACKEND != "tensorflow", reason="the layers call TensorFlow")


def seen(model) -> Inspection:
    return inspect_scorer(FastISM(model, engine="fast", reduce="sum"))


def assert_exact(model) -> None:
    model = in_keras3(model)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def trunk(package, x):
    """x -> C -> relu -> MXP -> C + -> D: a prediction at each position"""
    make = package.layers
    x = make.MaxPooling1D(2)(make.Conv1D(12, 7, padding="same", activation="relu")(x))
    x = make.Add()([x, make.Conv1D(12, 3, padding="same", activation="relu")(x)])
    return make.Dense(2, name="tracks")(x)


def without(package=keras):
    inp = package.layers.Input((LENGTH, 4), name="dna")
    return package.Model(inp, trunk(package, inp))


# --- in TensorFlow's own words ----------------------------------------------------------------------------------------


def own_layers(package) -> dict[str, type]:
    """What such packages have, for tf_keras or for Keras 3."""
    import tensorflow as tf

    def turned(x):
        return tf.reverse(tf.gather(x, [3, 2, 1, 0], axis=-1), axis=[1])

    class MaybeTurned(package.layers.Layer):
        def call(self, x, training=None):
            if training:
                flag = tf.random.uniform([]) > 0.5
                return tf.cond(flag, lambda: turned(x), lambda: x), flag
            return x, tf.constant(False)

    class MaybeShifted(package.layers.Layer):
        def __init__(self, most=3, **options):
            super().__init__(**options)
            self.most = most

        def call(self, x, training=None):
            return tf.roll(x, tf.random.uniform([], -self.most, self.most, tf.int32), axis=1) if training else x

        def get_config(self):
            return {**super().get_config(), "most": self.most}

    class TurnedBack(package.layers.Layer):
        def call(self, given):
            x, flag = given
            return tf.cond(flag, lambda: tf.reverse(x, axis=[1]), lambda: x)

    class ChosenBack(package.layers.Layer):
        def call(self, given):
            return tf.where(given[1], given[0][:, ::-1], given[0])

    class BothStrands(package.layers.Layer):
        def call(self, given):
            x = given[0] if isinstance(given, (list, tuple)) else given
            return [(x, tf.constant(False)), (turned(x), tf.constant(True))]

    found = (MaybeTurned, MaybeShifted, TurnedBack, ChosenBack, BothStrands)
    return {cls.__name__: cls for cls in found}


def augmented(package, back: str):
    own = own_layers(package)
    inp = package.layers.Input((LENGTH, 4), name="dna")
    x, flag = own["MaybeTurned"]()(inp)
    return package.Model(inp, own[back](name="tracks_back")([trunk(package, own["MaybeShifted"]()(x)), flag]))


def ensemble(package):
    """Both strands through one trunk, turned back and averaged."""
    own = own_layers(package)
    inp, x = package.layers.Input((LENGTH, 4), name="dna"), package.layers.Input((LENGTH, 4))
    inner = package.Model(x, trunk(package, x))
    both = [own["TurnedBack"]()([inner(strand), flag]) for strand, flag in own["BothStrands"]()([inp])]
    return package.Model(inp, package.layers.Average()(both))


BACK = ["TurnedBack", "ChosenBack"]
# The file that gives the classes to --custom-objects.
OBJECTS = """
import tf_keras
from tests.engine.test_inference_flags import own_layers
globals().update(own_layers(tf_keras))
"""


@pytest.mark.one_in(48)
@on_tensorflow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("form", ["memory", "saved_model", "m.h5", "m.keras"])
@pytest.mark.parametrize("back", BACK)
def test_augmentation_of_keras_2_costs_nothing(form, back, tmp_path):
    import tf_keras

    model = augmented(tf_keras, back)
    if form != "memory":
        model.save(tmp_path / form)
        (tmp_path / "own.py").write_text(OBJECTS)
        model = load_model(tmp_path / form, custom_objects=[] if form == "saved_model" else [str(tmp_path / "own.py")])
    found = seen(model)
    assert found.count("opaque") == 0 and "Borrowed" not in {node.class_name for node in found.nodes}
    assert found.limit >= 0.95 * seen(without()).limit
    if back == BACK[0]:
        assert_exact(model)


@on_tensorflow
@pytest.mark.parametrize("back", BACK)
def test_augmentation_of_keras_3_costs_nothing(back):
    model = randomise(augmented(keras, back), seed=1)
    found = seen(model)
    assert found.count("opaque") == 0 and found.limit >= 0.95 * seen(without()).limit
    assert_exact(model)


@pytest.mark.one_in(36)
@on_tensorflow
@pytest.mark.parametrize("form", ["keras", "tf_keras", "saved_model"])
def test_an_ensemble_of_both_strands_has_two_windows(form, tmp_path):
    import tf_keras

    if form == "keras":
        model = randomise(ensemble(keras), seed=2)
    else:
        model = ensemble(tf_keras)
    if form == "saved_model":
        model.save(tmp_path / "m")
        model = load_model(tmp_path / "m")
    found = seen(model)
    assert found.limit >= 0.9 * seen(without()).limit
    assert_exact(model)


@on_tensorflow
def test_a_subclassed_model_of_keras_2_is_opened(tmp_path):
    """Its class is not known, and its call is hidden: the graph is read."""
    import tensorflow as tf
    import tf_keras

    class ByCall(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.dense = tf_keras.layers.Conv1D(8, 5, padding="same"), tf_keras.layers.Dense(2)
            self.second = tf_keras.layers.Conv1D(8, 3, padding="same")

        def call(self, x, training=None):
            x = self.second(tf.nn.gelu(self.first(x)))
            return self.dense(tf.reduce_mean(x, axis=1))

    model = ByCall()
    model.predict(np.zeros((1, LENGTH, 4), "float32"), verbose=0)
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    found = seen(loaded)
    assert found.count("opaque") == 0 and found.limit > 5
    assert_exact(loaded)


# --- in words of keras.ops --------------------------------------------------------------------------------------------


class MaybeFlipped(layers.Layer):
    """The sequence, and whether it was turned."""

    def call(self, x, training=None):
        if training:
            flag = keras.random.uniform(()) > 0.5
            return ops.where(flag, x[:, ::-1, ::-1], x), flag
        return x, ops.zeros((), dtype="bool")


class FlippedBack(layers.Layer):
    def __init__(self, how, **options):
        super().__init__(**options)
        self.how = how

    def call(self, given):
        x, flag = given
        if self.how == "where":
            return ops.where(flag, ops.flip(x, axis=1), x)
        if self.how == "not":
            return ops.where(ops.logical_not(flag), x, ops.flip(x, axis=1))
        return ops.cond(flag, lambda: ops.flip(x, axis=1), lambda: x)

    def get_config(self):
        return {**super().get_config(), "how": self.how}


# JAX compiles both branches of a cond: there it stays one node, computed for all positions.
@pytest.mark.parametrize("how", ["where", "not", pytest.param("cond", marks=on_tensorflow)])
def test_a_flag_of_keras_is_a_constant(how):
    inp = dna(LENGTH)
    x, flag = MaybeFlipped()(inp)
    model = randomise(keras.Model(inp, FlippedBack(how)([trunk(keras, x), flag])), seed=3)
    found = seen(model)
    assert found.count("opaque") == 0 and found.limit >= 0.95 * seen(without()).limit
    if how == "where":
        assert_exact(model)


def test_an_operation_on_a_flag_is_a_constant():
    inp = dna(LENGTH)
    x, flag = MaybeFlipped()(inp)
    model = randomise(keras.Model(inp, ops.where(ops.logical_not(flag), trunk(keras, x), 0.0)), seed=4)
    assert seen(model).limit >= 0.9 * seen(without()).limit


TURNED = {
    "slices": lambda x: x[:, ::-1, ::-1],
    "ops.flip": lambda x: ops.flip(x, axis=(1, 2)),
    "two flips": lambda x: ops.flip(ops.flip(x, axis=-1), axis=-2),
    "take": lambda x: ops.take(x, [3, 2, 1, 0], axis=-1)[:, ::-1],
}


class Turned(layers.Layer):
    def __init__(self, how, **options):
        super().__init__(**options)
        self.how = how

    def call(self, x):
        return TURNED[self.how](x)

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@pytest.mark.parametrize("how", TURNED)
def test_both_strands_averaged(how):
    """One model on both strands, called with lists, the second turned back."""
    inp, x = dna(LENGTH), keras.Input((LENGTH, 4))
    inner = keras.Model([x], trunk(keras, x))
    model = keras.Model(inp, layers.Average()([inner([inp]), ops.flip(inner([Turned(how)(inp)]), axis=1)]))
    found = seen(randomise(model, seed=5))
    assert found.count("opaque") == 0 and found.limit >= 0.9 * seen(without()).limit
    if how == "take":
        assert_exact(model)
