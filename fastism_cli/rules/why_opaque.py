"""Why layers without a rule have none, and what to do about it: for ``fastism inspect`` and docs/layers.md."""

from __future__ import annotations

from typing import Any

import keras

from fastism_cli.rules.several_windows import Whole

REASONS: dict[type, str] = {}


def explain(reason: str, names: str) -> None:
    """Give the reason to classes of ``keras.layers``, as far as this version of Keras has them."""
    for name in names.split():
        if hasattr(keras.layers, name):
            REASONS[getattr(keras.layers, name)] = reason


explain(
    "every position is carried on to the next ones; nothing to be done but to keep it late and its input short",
    "RNN SimpleRNN GRU LSTM Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D",
)
explain(
    "every position looks at all others; nothing to be done but to keep it late and its input short",
    "Attention AdditiveAttention MultiHeadAttention GroupQueryAttention",
)
explain(
    "normalises with the mean over all positions; a normalisation of the channels alone would be fast",
    "GroupNormalization",
)
explain("sums products over all positions, or takes a tensor that has none", "Dot RepeatVector")
explain(
    "its bins are not of one width: its input is no multiple of its output_size in length",
    "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D",
)
explain(
    "its function is more than Keras layers and keras.ops; write it of those, or as a class with a rule (--rules)",
    "Lambda",
)
explain(
    "nothing is known of the code inside; write it as a layer class and give that a rule (--rules FILE.py)",
    "TFSMLayer JaxLayer FlaxLayer TorchModuleWrapper Pipeline",
)
explain(
    "works on whole images",
    "AutoContrast CenterCrop Equalization RandomCrop Resizing Solarization "
    "ContrastLimitedAdaptiveHistogramEqualization",
)


def why_opaque(layer: Any) -> str:
    """One line for a layer whose class has no rule."""
    cls = type(layer)
    if isinstance(layer, Whole):
        return layer.why_opaque
    if cls in REASONS:
        return REASONS[cls]
    if cls.__module__.startswith(("keras.", "tf_keras.")):
        return f"no rule for {cls.__name__}"
    like = next((base.__name__ for base in cls.__mro__[1:] if base in _known()), None)
    if like is not None:
        return f"{cls.__name__} is yours: if it keeps what {like} does, register_rule({cls.__name__}, like={like})"
    return (
        f"{cls.__name__} is yours, and its call is more than Keras layers and keras.ops: write it of those, or give it "
        "a rule with --rules FILE.py"
    )


def _known() -> dict[type, Any]:
    from fastism_cli.rules.table import RULES

    return RULES
