"""A layer of one's own, and the rule that makes it fast.

    fastism run --model m.keras --custom-objects attention_pooling.py --rules attention_pooling.py ...

The layer averages the positions with learned weights: (L, C) -> (C,). Its rule takes the sums over all positions from
the reference, subtracts what the changed window adds to them, and adds what it adds after the substitution.
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
    """``sum_i x[i] w[i] / sum_i w[i]`` with ``w = exp(x @ kernel)``: both sums change by their window alone."""

    form = Form.VALUE

    def propagate(self, facts):
        return EVERYWHERE  # the output has no positions

    def summarise(self, facts, x):
        """Once for each reference ``x`` (S, L, C): the largest score, and both sums with weights relative to it."""
        score = ops.matmul(x, facts.layer.kernel)
        top = ops.max(score, axis=1, keepdims=True)
        weight = ops.exp(score - top)
        return {"top": top[:, 0], "weights": ops.sum(weight, axis=1), "products": ops.sum(x * weight, axis=1)}

    def both(self, call, new, reference):
        """Output with and without the substitution, from windows (S, P, A, width, C)."""
        inside = per_position(call.valid(call.facts.window.frame), 5)
        scores = [ops.where(inside, ops.matmul(x, call.layer.kernel), -1e30) for x in (*new, *reference)]
        top = ops.maximum(call.summary["top"], ops.max(scores[0], axis=3))
        sums = [call.summary[name] * ops.exp(call.summary["top"] - top) for name in ("products", "weights")]
        added = self.sums(new[0], scores[0], top)
        taken = self.sums(reference[0], scores[1], top)
        products, weights = (s - t + a for s, t, a in zip(sums, taken, added, strict=True))
        return products / weights, call.summary["products"] / call.summary["weights"]

    def sums(self, x, score, top):
        weight = ops.exp(score - ops.expand_dims(top, 3))
        return ops.sum(x * weight, axis=3), ops.sum(weight, axis=3)


register_rule(AttentionPooling, AttentionPoolingRule())
