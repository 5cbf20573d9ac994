"""Recurrent layers; and layers without a rule: attention, wrappers and custom classes, with saving before them."""

import keras
import numpy as np
from keras import layers

from . import custom
from .blocks import conv, dna, flat_dense
from .registry import toy, toys

RECURRENT = {
    "lstm": lambda **options: layers.LSTM(4, **options),
    "gru": lambda **options: layers.GRU(4, **options),
    "simple": lambda **options: layers.SimpleRNN(4, **options),
    "backwards": lambda **options: layers.GRU(4, go_backwards=True, **options),
    "bidirectional": lambda **options: layers.Bidirectional(layers.LSTM(3, **options)),
    "bidirectional_sum": lambda **options: layers.Bidirectional(layers.GRU(3, **options), merge_mode="sum"),
}


@toys(RECURRENT)
def recurrent_end(layer) -> keras.Model:
    """inp -> C -> MXP3 -> RNN (last state) -> D -> y"""
    inp = dna(30)
    x = layers.MaxPooling1D(3)(conv(inp, 5, 5, activation="relu"))
    return keras.Model(inp, layers.Dense(2)(layer()(x)))


@toys({name: RECURRENT[name] for name in ("lstm", "bidirectional")})
def recurrent_middle(layer) -> keras.Model:
    """inp -> C -> MXP3 -> RNN (sequences) -> C -> relu -> MXP2 -> D -> y"""
    inp = dna(30)
    x = layer(return_sequences=True)(layers.MaxPooling1D(3)(conv(inp, 5, 5, activation="relu")))
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(2)(conv(x, 4, 3, activation="relu"))))


@toy
def recurrent_first() -> keras.Model:
    """inp -> GRU (sequences) -> C -> GMP -> y"""
    inp = dna(20)
    x = conv(layers.GRU(4, return_sequences=True)(inp), 3)
    return keras.Model(inp, layers.GlobalMaxPooling1D()(x))


@toy
def recurrent_states() -> keras.Model:
    """inp -> C -> LSTM -> (sequence, h, c) -> Concat(GAP(sequence), h, c) -> D -> y: three outputs of one layer"""
    inp = dna(20)
    sequence, h, c = layers.LSTM(3, return_sequences=True, return_state=True)(conv(inp))
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(sequence), h, c])
    return keras.Model(inp, layers.Dense(2)(x))


@toy
def recurrent_encoder_decoder() -> keras.Model:
    """inp -> LSTM -> its states -> initial_state of a second LSTM on C(inp) -> D -> y"""
    inp = dna(16)
    _, h, c = layers.LSTM(3, return_state=True)(inp)
    return keras.Model(inp, layers.Dense(2)(layers.LSTM(3)(conv(inp), initial_state=[h, c])))


@toy
def masked_recurrent() -> keras.Model:
    """inp -> Masking -> LSTM -> D -> y: an N, four zeros, is skipped; the mask travels beside the tensor"""
    inp = dna(20)
    return keras.Model(inp, layers.Dense(2)(layers.LSTM(4)(layers.Masking(0.0)(inp))))


@toys({"self": False, "cross": True})
def multi_head_attention(cross) -> keras.Model:
    """inp -> C -> MXP2 -> MHA(x, x) or MHA(query=x, value=C(x)) -> D -> y"""
    inp = dna(24)
    x = layers.MaxPooling1D(2)(conv(inp, 6, 5, activation="relu"))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3)
    return keras.Model(inp, flat_dense(attention(query=x, value=conv(x, 6)) if cross else attention(x, x)))


ATTENTION = {
    "causal": lambda x, other: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    "value_dim": lambda x, other: layers.MultiHeadAttention(3, 2, value_dim=5, output_shape=4)(x, x),
    "dropout": lambda x, other: layers.MultiHeadAttention(2, 3, dropout=0.3)(x, x),
    "masked": lambda x, other: layers.MultiHeadAttention(2, 3)(x, x, attention_mask=np.tri(12, dtype="bool")[None]),
    "mask_of_the_sequence": lambda x, other: layers.MultiHeadAttention(2, 3)(
        x, x, attention_mask=keras.ops.greater(keras.ops.einsum("bic,bjc->bij", x, x), 0.0)
    ),
    "cross": lambda x, other: layers.MultiHeadAttention(2, 3)(x, other, key=layers.ReLU()(other)),
    "scores": lambda x, other: layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)[1],
    "grouped": lambda x, other: layers.GroupQueryAttention(3, 4, 2)(x, other),
    "grouped_causal": lambda x, other: layers.GroupQueryAttention(3, 4, 2, use_bias=False)(x, x, use_causal_mask=True),
}


@toys(ATTENTION)
def attention_between_towers(attend) -> keras.Model:
    """inp -> C -> MXP2 -> LN -> attention with C(inp) -> MXP2 -> D -> y"""
    inp = dna(24)
    x, other = (layers.MaxPooling1D(2)(conv(inp, 6, k, activation="relu")) for k in (5, 3))
    return keras.Model(inp, flat_dense(attend(layers.LayerNormalization()(x), other)))


@toy
def transformer_block_middle() -> keras.Model:
    """inp -> C -> MXP3 -> Add(x, MHA(LN(x))) -> LN -> Add(x, D(gelu(D(x)))) -> C -> y"""
    inp = dna(30)
    x = layers.MaxPooling1D(3)(conv(inp, 6, 5, activation="relu"))
    z = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(num_heads=2, key_dim=3)(z, z)])
    z = layers.Dense(6)(layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(inp, conv(layers.Add()([x, z]), 2))


@toys({"dot": layers.Attention, "additive": layers.AdditiveAttention})
def attention(layer) -> keras.Model:
    """inp -> C -> attention([x, C(x)]) -> GAP -> D -> y"""
    inp = dna(24)
    x = conv(inp, 5, 5, activation="relu")
    x = layer(use_scale=True)([x, conv(x)])
    return keras.Model(inp, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@toy
def attention_over_a_pooled_query() -> keras.Model:
    """inp -> C -> Attention([GAP keepdims (1, C), x]) -> Flatten -> D -> y"""
    inp = dna(24)
    x = conv(inp, 5, 5, activation="relu")
    return keras.Model(inp, flat_dense(layers.Attention()([layers.GlobalAveragePooling1D(keepdims=True)(x), x])))


@toy
def time_distributed_dense() -> keras.Model:
    """inp -> C -> TimeDistributed(D) -> relu -> C -> y"""
    inp = dna(24)
    x = layers.TimeDistributed(layers.Dense(4))(conv(inp, 5, 5, activation="relu"))
    return keras.Model(inp, conv(layers.ReLU()(x), 2))


CUSTOM = {
    "mirror": custom.MirrorMix,
    "position_scale": custom.PositionScale,
    "gated": custom.GatedUnit,
    "squared_conv": lambda: custom.SquaredConv1D(4, 3, padding="same"),
    "unchanged_conv": lambda: custom.UnchangedConv1D(4, 3, padding="same"),
    "centered_relu": custom.CenteredReLU,
    "scale_by_default": custom.ScaleBy,
}


@toys(CUSTOM)
def custom_between(layer) -> keras.Model:
    """inp -> C -> custom layer -> C -> y"""
    inp = dna(24)
    return keras.Model(inp, conv(layer()(conv(inp, 5, 5)), 2))


@toy
def custom_first() -> keras.Model:
    """inp -> MirrorMix -> C -> D -> y: every base changes two positions"""
    inp = dna(24)
    return keras.Model(inp, flat_dense(conv(custom.MirrorMix()(inp), 5, 5, activation="relu")))


@toy
def custom_last() -> keras.Model:
    """inp -> C -> AttentionPooling -> y"""
    inp = dna(24)
    return keras.Model(inp, custom.AttentionPooling()(conv(inp, 5, 5, activation="relu")))


@toy
def custom_two_outputs() -> keras.Model:
    """inp -> C -> SplitHalves -> Multiply(a, sigmoid(b)) -> C -> y"""
    inp = dna(24)
    signal, gate = custom.SplitHalves()(conv(inp, 8, 5))
    return keras.Model(inp, conv(layers.Multiply()([signal, layers.Activation("sigmoid")(gate)]), 2))


@toy
def custom_called_with_a_number() -> keras.Model:
    """inp -> C -> ScaleBy(x, factor=2.5) + the same layer with factor=-0.5 on C(x) -> C -> y"""
    inp = dna(24)
    scale = custom.ScaleBy()
    x = conv(inp, 5, 5, activation="relu")
    return keras.Model(inp, conv(layers.Add()([scale(x, factor=2.5), scale(conv(x, 5), factor=-0.5)]), 2))
