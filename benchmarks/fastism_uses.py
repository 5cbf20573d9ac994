"""What the fastISM package 0.5.1 says that it can be used for: one small model and one call for each way.

Its README, its examples, its tutorial, its page on layers and the architectures of its tests. Every builder takes the
Keras module to build with: fastISM needs Keras 2, and both programs are given one set of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.models import random_one_hot, randomised

Model = Any
LENGTH = 40  # of a sequence: fastISM computes position after position
ZEROS = 0  # as fastISM's ``replace_with`` has it
ONE_HOT = tuple(map(tuple, np.eye(4, dtype=int).tolist()))
DNA, PROTEIN = "ACGT", "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True)
class Use:
    """One way to use fastISM.

    Attributes
    ----------
    build : function of the Keras module
    calls : tuple
        What is given as ``replace_with``, call by call: 0, a vector, or the rows of a range.
    ranges : sequence of (start, end), optional
        ``change_ranges``; None is every position.
    sequence : int
        ``seq_input_idx``.
    options : dict
        Others that fastISM's class takes.
    registered : dict of set name to class name
        Layers that it must be told of: sets of ``fastism.fast_ism_utils``.
    is_naive : bool
        Whether it is ``NaiveISM`` that is called.
    """

    build: Callable[[Any], Model]
    calls: tuple[Any, ...] = (ZEROS,)
    ranges: Sequence[tuple[int, int]] | None = None
    sequence: int = 0
    alphabet: str = DNA
    options: dict[str, Any] = field(default_factory=dict)
    registered: dict[str, str] = field(default_factory=dict)
    is_naive: bool = False

    def inputs(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """Two sequences, the second with a stretch of N in it; random numbers for the other inputs."""
        rng, found = np.random.default_rng(1), []
        for i, shape in enumerate(shapes):
            if i == self.sequence:
                x = random_one_hot(2, shape[0], letters=shape[1])
                x[1, shape[0] // 3 : shape[0] // 3 + 4] = 0
            else:
                x = rng.normal(size=(2, *shape)).astype("float32")
            found.append(x)
        return found


def spread(length: int, width: int, step: int) -> tuple[tuple[int, int], ...]:
    """Ranges of one width, from the first position to the last."""
    return tuple((start, start + width) for start in range(0, length - width + 1, step))


def rows(width: int, letters: str) -> tuple[tuple[int, ...], ...]:
    """The letters as rows of a range, again and again."""
    return tuple(ONE_HOT[DNA.index(letters[i % len(letters)])] for i in range(width))


# --- models -----------------------------------------------------------------------------------------------------------


def chain(k: Any, length: int = LENGTH, letters: int = 4) -> Model:
    """inp -> C -> MXP -> C -> MXP -> F -> D -> D"""
    x = inputs = k.Input((length, letters))
    x = k.layers.Conv1D(10, 7, padding="same", activation="relu")(x)
    x = k.layers.MaxPooling1D(3)(x)
    x = k.layers.Conv1D(10, 3)(x)
    x = k.layers.MaxPooling1D(2)(x)
    x = k.layers.Dense(20, activation="relu")(k.layers.Flatten()(x))
    return randomised(k.Model(inputs, k.layers.Dense(2)(x)))


def sequential(k: Any) -> Model:
    """A Sequential: C -> MXP -> C -> Dropout -> MXP -> dilated C -> Dropout -> C -> GAP -> D -> Dropout -> D"""
    layers = k.layers
    stack = [
        layers.Conv1D(10, 5, use_bias=False, padding="same"),
        layers.MaxPooling1D(2),
        layers.Conv1D(25, 4, padding="same", activation="relu"),
        layers.Dropout(0.5),
        layers.MaxPooling1D(2),
        layers.Conv1D(30, 2, dilation_rate=2, use_bias=False, activation="tanh"),
        layers.Dropout(0.8),
        layers.Conv1D(10, 3, padding="same"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(10),
        layers.Dropout(0.3),
        layers.Dense(1),
    ]
    return randomised(k.Sequential([k.Input((64, 4)), *stack]))


def beluga(k: Any) -> Model:
    """The tutorial's architecture, small: three times C -> C -> MXP with valid padding, then D -> D, 40 chances."""
    x = inputs = k.Input((60, 4))
    for filters, pool_size in ((12, 2), (16, 2), (20, 1)):
        x = k.layers.Conv1D(filters, 4, activation="relu")(x)
        x = k.layers.Conv1D(filters, 4, activation="relu")(x)
        x = k.layers.MaxPooling1D(pool_size)(x) if pool_size > 1 else x
    x = k.layers.Dense(30, activation="relu")(k.layers.Flatten()(x))
    return randomised(k.Model(inputs, k.layers.Dense(40, activation="sigmoid")(x)))


def with_features(k: Any) -> Model:
    """[features, inp]: inp -> C -> C -> F, with D of the features -> D -> D"""
    features, inputs = k.Input((100,)), k.Input((LENGTH, 4))
    x = k.layers.Conv1D(20, 3)(k.layers.Conv1D(20, 3)(inputs))
    x = k.layers.Concatenate()([k.layers.Flatten()(x), k.layers.Dense(10)(features)])
    return randomised(k.Model([features, inputs], k.layers.Dense(1)(k.layers.Dense(10)(x))))


def last_of_three(k: Any) -> Model:
    """[a, b, inp]: inp -> C -> F, with a -> D, then b -> D"""
    first, second, inputs = k.Input((10,)), k.Input((6,)), k.Input((LENGTH, 4))
    x = k.layers.Flatten()(k.layers.Conv1D(20, 3, activation="relu")(inputs))
    x = k.layers.Dense(12)(k.layers.Concatenate()([x, first]))
    x = k.layers.Dense(2)(k.layers.Concatenate()([x, second]))
    return randomised(k.Model([first, second, inputs], x))


def three_outputs(k: Any) -> Model:
    """[inp, features]: inp -> C -> F -> D, and with the features -> D -> D, and with more of the features -> D"""
    inputs, features = k.Input((LENGTH, 4)), k.Input((10,))
    x = k.layers.Flatten()(k.layers.Conv1D(20, 3, activation="relu")(inputs))
    seen = k.layers.Dense(9)(features)
    both = k.layers.Dense(7)(k.layers.Concatenate()([x, seen]))
    more = k.layers.Concatenate()([both, k.layers.Dense(5)(seen)])
    outputs = [k.layers.Dense(1, name="one")(x), k.layers.Dense(2, name="two")(both)]
    return randomised(k.Model([inputs, features], [*outputs, k.layers.Dense(3, name="three")(more)]))


def nested(k: Any) -> Model:
    """inp -> C -> [C, Add] -> MXP -> F -> [D -> D]"""
    block_input = k.Input((36, 20))
    y = k.layers.Conv1D(20, 3, padding="same")(block_input)
    residual = k.Model(block_input, k.layers.Add()([block_input, y]), name="residual")
    flat = k.Input((12 * 20,))
    dense = k.Model(flat, k.layers.Dense(1)(k.layers.Dense(10)(flat)), name="dense_part")
    inputs = k.Input((36, 4))
    x = residual(k.layers.Conv1D(20, 3, padding="same")(inputs))
    x = dense(k.layers.Flatten()(k.layers.MaxPooling1D(3)(x)))
    return randomised(k.Model(inputs, x))


def dilated(k: Any) -> Model:
    """BPNet: inp -> C -> three dilated C with residual adds -> profile (L, 1) and counts (1)"""
    x = inputs = k.Input((LENGTH, 4))
    x = k.layers.Conv1D(8, 9, padding="same", activation="relu")(x)
    for i in range(1, 4):
        y = k.layers.Conv1D(8, 3, padding="same", activation="relu", dilation_rate=2**i)(x)
        x = k.layers.Add()([x, y])
    profile = k.layers.Conv1D(1, 9, padding="same", name="profile")(x)
    counts = k.layers.Dense(1, name="counts")(k.layers.GlobalAveragePooling1D()(x))
    return randomised(k.Model(inputs, [profile, counts]))


def cropped(k: Any) -> Model:
    """inp -> C -> valid C, and the first cropped -> Add -> BN -> ReLU -> F -> D"""
    inputs = k.Input((LENGTH, 4))
    x = k.layers.Conv1D(12, 5)(inputs)
    y = k.layers.Conv1D(12, 7, activation="relu")(x)
    x = k.layers.Add()([k.layers.Cropping1D((3, 3))(x), y])
    x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
    return randomised(k.Model(inputs, k.layers.Dense(2)(k.layers.Flatten()(x))))


def early_stop(k: Any) -> Model:
    """inp -> C, and inp -> C -> Add, named "stop" -> F -> D"""
    inputs = k.Input((LENGTH, 4))
    branches = [k.layers.Conv1D(20, 3, activation="relu")(inputs) for _ in range(2)]
    x = k.layers.Add(name="stop")(branches)
    return randomised(k.Model(inputs, k.layers.Dense(1)(k.layers.Flatten()(x))))


# --- models with layers of one's own ----------------------------------------------------------------------------------


def see_through(k: Any) -> Model:
    """inp -> C -> a weight for each channel, then a softplus -> MXP -> F -> D"""
    import tensorflow as tf

    class ScaledSoftplus(k.layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(name="gamma", shape=(shape[-1],))
            self.built = True

        def call(self, x):
            return tf.math.softplus(x * tf.convert_to_tensor(self.gamma))

    inputs = k.Input((LENGTH, 4))
    x = ScaledSoftplus()(k.layers.Conv1D(12, 5)(inputs))
    return randomised(k.Model(inputs, k.layers.Dense(1)(k.layers.Flatten()(k.layers.MaxPooling1D(4)(x)))))


def aggregate(k: Any) -> Model:
    """inp -> C, and inp -> C -> the first times a sigmoid of the second -> F -> D"""
    import tensorflow as tf

    class Gate(k.layers.Layer):
        def call(self, both):
            return both[0] * tf.math.sigmoid(both[1])

    inputs = k.Input((LENGTH, 4))
    x = Gate()([k.layers.Conv1D(12, 5)(inputs) for _ in range(2)])
    return randomised(k.Model(inputs, k.layers.Dense(1)(k.layers.Flatten()(x))))


def stop(k: Any) -> Model:
    """inp -> C -> MXP -> mean and largest of each channel -> D"""
    import tensorflow as tf

    class MeanAndMost(k.layers.Layer):
        def call(self, x):
            return tf.concat([tf.reduce_mean(x, axis=1), tf.reduce_max(x, axis=1)], axis=-1)

    inputs = k.Input((LENGTH, 4))
    x = MeanAndMost()(k.layers.MaxPooling1D(2)(k.layers.Conv1D(12, 5)(inputs)))
    return randomised(k.Model(inputs, k.layers.Dense(2)(x)))


def pooling(k: Any) -> Model:
    """inp -> C -> a mean of every four positions with weights from a softmax -> C -> F -> D"""
    import tensorflow as tf

    class WeightedPooling(k.layers.Layer):
        """fastISM reads a pooling layer's attributes and configuration."""

        def __init__(self, pool_size=4, strides=4, padding="valid", data_format="channels_last", **options):
            super().__init__(**options)
            self.pool_size, self.strides, self.padding, self.data_format = pool_size, strides, padding, data_format

        def get_config(self):
            names = ("pool_size", "strides", "padding", "data_format")
            return {**super().get_config(), **{name: getattr(self, name) for name in names}}

        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], shape[-1]))
            self.built = True

        def call(self, x):
            if x.shape[1] is None:  # fastISM asks for a graph without a length
                return x
            parts = tf.reshape(x, (-1, x.shape[1] // self.pool_size, self.pool_size, x.shape[2]))
            weights = tf.nn.softmax(tf.matmul(parts, tf.convert_to_tensor(self.kernel)), axis=2)
            return tf.reduce_sum(parts * weights, axis=2)

    inputs = k.Input((LENGTH, 4))
    x = k.layers.Conv1D(8, 3)(WeightedPooling()(k.layers.Conv1D(12, 5, padding="same")(inputs)))
    return randomised(k.Model(inputs, k.layers.Dense(1)(k.layers.Flatten()(x))))


# --- the uses ---------------------------------------------------------------------------------------------------------


USES: dict[str, Use] = {
    "zeros at every position": Use(chain),
    "each letter at every position": Use(chain, ONE_HOT),
    "the tutorial's model, each letter": Use(beluga, ONE_HOT),
    "NaiveISM": Use(chain, (ZEROS, ONE_HOT[1]), is_naive=True),
    "three T in the middle 150 of 1,000": Use(
        lambda k: chain(k, 1000), (rows(3, "T"),), [(start, start + 3) for start in range(425, 575)]
    ),
    "one range, zeros": Use(chain, ranges=[(15, 30)]),
    "one range, a motif": Use(chain, (rows(7, "TGACTCA"),), [(20, 27)]),
    "four ranges of ten, zeros": Use(chain, ranges=spread(LENGTH, 10, 10)),
    "overlapping ranges to both ends, a motif": Use(chain, (rows(8, "GATTACA"),), spread(LENGTH, 8, 4)),
    "a Sequential with Dropout": Use(sequential),
    "seq_input_idx=1, another input": Use(with_features, (ZEROS, ONE_HOT[2]), sequence=1),
    "seq_input_idx=2, two other inputs": Use(last_of_three, sequence=2),
    "three outputs, ranges of ten": Use(three_outputs, (ZEROS, rows(10, "ACGT")), spread(LENGTH, 10, 10)),
    "a model inside a model": Use(nested, (ZEROS, ONE_HOT[0])),
    "a profile and counts": Use(dilated, (ZEROS, ONE_HOT[3])),
    "skip connection, cropped": Use(cropped),
    "early_stop_layers": Use(early_stop, options={"early_stop_layers": "stop"}),
    "twenty letters": Use(lambda k: chain(k, 30, 20), alphabet=PROTEIN),
    "SEE_THROUGH_LAYERS.add": Use(see_through, registered={"SEE_THROUGH_LAYERS": "ScaledSoftplus"}),
    "AGGREGATE_LAYERS.add": Use(aggregate, registered={"AGGREGATE_LAYERS": "Gate"}),
    "STOP_LAYERS.add": Use(stop, registered={"STOP_LAYERS": "MeanAndMost"}),
    "POOLING_LAYERS.add": Use(pooling, registered={"POOLING_LAYERS": "WeightedPooling"}),
}
