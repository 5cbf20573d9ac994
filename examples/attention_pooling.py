"""A custom layer, and the rule that makes it fast.

    fastism run --model m.keras --custom-objects attention_pooling.py --rules attention_pooling.py ...

The layer averages the positions with learned weights: (L, C) -> (C,). Its rule sums over the positions outside of the
changed window on the reference, once for all alternates, and adds what the window itself adds.
"""

import keras
from keras import ops

from fastism_cli.rules import EVERYWHERE, Form, Rule, per_position, register_rule


@keras.saving.register_keras_serializable(package="examples")
class AttentionPooling(keras.layers.Layer):
    """Softmax-weighted mean over the positions."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 1), name="kernel")
        super().build(input_shape)

    def call(self, x):
        return ops.sum(x * ops.softmax(ops.matmul(x, self.kernel), axis=1), axis=1)


class AttentionPoolingRule(Rule):
    """``sum_i x[i] w[i] / sum_i w[i]`` with ``w = exp(x @ kernel)``: what lies outside of the window stays."""

    form = Form.VALUE

    def propagate(self, facts):
        return EVERYWHERE  # the output has no positions

    def summarise(self, facts, x):
        """Once for each reference ``x`` (S, L, C)."""
        return {"x": x, "score": ops.matmul(x, facts.layer.kernel)}

    def both(self, call, new, reference):
        """Output with and without the substitution, from windows (S, P, A, width, C)."""
        frame = call.facts.window.frame
        row = ops.arange(frame.length)[None, :] - call.first(frame)[:, None]
        outside = per_position(ops.logical_or(row < 0, row >= frame.width), 5)
        rest = sums(call.summary["x"], ops.where(outside, call.summary["score"], LOWEST))
        inside = per_position(call.valid(frame), 5)
        windows = (sums(x, ops.where(inside, ops.matmul(x, call.layer.kernel), LOWEST)) for x in (*new, *reference))
        return tuple(mean_of(rest, window) for window in windows)


LOWEST = -1e30


def sums(x, score):
    """The largest score of the rows (axis 3), and with weights relative to it the sums of ``x * w`` and of ``w``."""
    top = ops.max(score, axis=3, keepdims=True)
    weight = ops.exp(score - top)
    return ops.squeeze(top, 3), ops.sum(x * weight, axis=3), ops.sum(weight, axis=3)


def mean_of(*parts):
    """The weighted mean over all rows of these parts."""
    top = ops.maximum(*(part[0] for part in parts))
    scales = [ops.exp(part[0] - top) for part in parts]
    products = sum(scale * part[1] for scale, part in zip(scales, parts, strict=True))
    return products / sum(scale * part[2] for scale, part in zip(scales, parts, strict=True))


register_rule(AttentionPooling, AttentionPoolingRule())
