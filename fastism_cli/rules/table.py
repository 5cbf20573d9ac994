"""The rule table: which rule each Keras layer and each operation of ``keras.ops`` has, and why the others have none.

``LAYERS`` and ``OPERATIONS`` are the whole mapping, family by family; the files beside this one hold the rules.
Classes are looked up exactly, never by ``isinstance``: a subclass may override ``call`` (one that does not is made a
layer of its Keras class before, see model/adapt.py). A layer that is quantised, or whose ``call`` was replaced,
computes something else than its class: it has no rule.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from keras import Layer, activations, layers

from fastism_cli.errors import RuleError
from fastism_cli.model.graph import OPAQUE as OPAQUE_ROLE
from fastism_cli.model.graph import Input, Node
from fastism_cli.model.keras_graph import function_of, has_own_call, operation_class, quantisation
from fastism_cli.model.loading.keras2_layers import ThresholdedReLU
from fastism_cli.model.reductions import L2, Center, Jsd, Log2, LogSumExp, Max, Mean, Profile, Select, Sum
from fastism_cli.model.sequence_inputs import LetterIntegers
from fastism_cli.rules.around_window import (
    DEVIATION,
    LOG_SUM_EXP,
    NORM,
    PRODUCT,
    VARIANCE,
    OverPositions,
    PooledBySoftmax,
    PooledBySoftmaxRule,
)
from fastism_cli.rules.base import Rule
from fastism_cli.rules.combine import Concatenate, LinearMerge, Merge, MergeAlong
from fastism_cli.rules.conv import Conv
from fastism_cli.rules.conv_2d_3d import SpatialConv, TransposedConv, convolve, convolve_depthwise, convolve_separable
from fastism_cli.rules.dense import Dense, Lookup, ToIntegers
from fastism_cli.rules.einsum import (
    Einsum,
    EinsumLayer,
    EinsumOfTensors,
    Spelled,
    dot,
    dot_layer,
    einsum,
    inner,
    matmul,
    tensordot,
)
from fastism_cli.rules.global_pool import (
    CenterSum,
    ChannelReduce,
    FromLowest,
    LinearReduce,
    Maximum,
    NeedsWholeHead,
    SelectTargets,
    SummedConvolution,
    SummedConvolutionRule,
    WindowMax,
    WindowMean,
    WindowNorm,
    WindowSum,
    axis_argument,
    spatial_axes,
)
from fastism_cli.rules.layer_calls import arguments, has_other_arguments
from fastism_cli.rules.opaque import WHY as WHY_ATTENTION
from fastism_cli.rules.opaque import AttentionOfProjections, AttentionRule, Supposed, SupposedRule
from fastism_cli.rules.pointwise import (
    Activated,
    Apply,
    BatchNorm,
    Broadcast,
    Cast,
    EachPosition,
    Fixed,
    Identity,
    NewChannels,
    Pointwise,
    Rescale,
    RowsOfTable,
    SlopedReLU,
    Standardise,
    Taken,
    WithConstant,
    along_positions_axis,
)
from fastism_cli.rules.pool import AveragePool, MaxPool, SpatialAveragePool, SpatialMaxPool, SpatialMove, SpatialRepeat
from fastism_cli.rules.recurrent import Recurrence, Recurrent
from fastism_cli.rules.reshape import (
    Flatten,
    Move,
    Padded,
    Repeat,
    Reshaped,
    Sliced,
    Transposed,
    axes_argument,
    flip_axes,
    item,
    moved,
    permuted,
    repeats_argument,
    swapped,
    up_sampling,
)
from fastism_cli.rules.several_windows import (
    FurtherWindow,
    FurtherWindowRule,
    MaximumOverWindows,
    MaximumOverWindowsRule,
    SumOfLetters,
    SumOfLettersRule,
)

# A rule, or a function that chooses one for a node.
Choice = Rule | Callable[[Node], Rule]


def of_keras(names: str) -> tuple[type, ...]:
    """The classes of ``keras.layers`` with these names that this version of Keras has."""
    return tuple(getattr(layers, name) for name in names.split() if hasattr(layers, name))


def of_activations(names: str) -> tuple[type, ...]:
    """The classes of operations with these names that functions of ``keras.activations`` are for symbols."""
    module = sys.modules[activations.relu.__module__]
    return tuple(getattr(module, name) for name in names.split() if hasattr(module, name))


# --- rules that depend on the node ------------------------------------------------------------------------------------


def by_data_format(last: Rule, first: Rule) -> Callable[[Node], Rule]:
    """``last`` for 'channels_last', ``first`` for 'channels_first'."""
    return lambda node: last if node.layer.data_format == "channels_last" else first


def with_constant(constant: Rule, tensors: Rule) -> Callable[[Node], Rule]:
    """``constant`` for a tensor of the model and a constant, ``tensors`` for two tensors."""
    return lambda node: tensors if len(node.inputs) > 1 else constant


def product(spelled: Spelled) -> Callable[[Node], Rule]:
    """The rules of a product: of a tensor with constants, and of several tensors."""
    return with_constant(Einsum(spelled), EinsumOfTensors(spelled))


def quotient(node: Node) -> Rule:
    """Of two tensors, of a tensor by a constant, or of a constant by a tensor."""
    if len(node.inputs) > 1:
        return MERGE
    return SCALED_DOWN if isinstance(arguments(node)[0], Input) else ONE_BY_ONE


def fixed(node: Node) -> Rule:
    """For ``ones_like(x)`` and ``full_like(x, constant)``; where the number to fill in is a tensor, none is right."""
    return Fixed() if isinstance(arguments(node)[0], Input) and len(node.inputs) == 1 else ONE_BY_ONE


MERGE, ONE_BY_ONE, SCALED_DOWN = Merge(), Apply(), WithConstant("divide")
SUM, DIFFERENCE = LinearMerge(lambda n: [1.0] * n), LinearMerge(lambda n: [1.0, -1.0])
ALONG_AN_AXIS = Pointwise(elementwise=False, unless=along_positions_axis)
# The activation of a layer that has one built in: a node of its own (see engine/rewrite.py).
ACTIVATION = Activated()

# --- the table: layers ------------------------------------------------------------------------------------------------

# What augments images in training does nothing at inference.
AUGMENTATIONS = (
    "AugMix CutMix MixUp RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
    "RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear "
    "RandomTranslation RandomZoom"
)
SOFTMAX = "every position influences all others through a softmax: the head is computed in full, on the device"

LAYERS: dict[tuple[type, ...], Choice] = {
    # pointwise.py
    (layers.Dropout, layers.GaussianDropout, layers.AlphaDropout): Identity(),
    (layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D): Identity(),
    (layers.GaussianNoise, layers.ActivityRegularization, layers.Identity): Identity(),
    of_keras(AUGMENTATIONS): Identity(),
    (layers.Activation,): ACTIVATION,
    (layers.ReLU, layers.LeakyReLU, layers.ELU, ThresholdedReLU, *of_activations("ReLU Mish")): Pointwise(),
    (layers.Softmax, layers.Masking): ALONG_AN_AXIS,
    (layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization): ALONG_AN_AXIS,
    (layers.TimeDistributed,): EachPosition(),
    (layers.BatchNormalization,): BatchNorm(),
    (layers.Rescaling,): Rescale(),
    (layers.Normalization,): Standardise(),
    (layers.PReLU,): SlopedReLU(),
    # conv.py, conv_2d_3d.py
    (layers.Conv1D,): by_data_format(last=Conv(), first=SpatialConv(convolve)),
    (layers.Conv2D, layers.Conv3D): SpatialConv(convolve),
    (layers.DepthwiseConv1D, layers.DepthwiseConv2D): SpatialConv(convolve_depthwise),
    (layers.SeparableConv1D, layers.SeparableConv2D): SpatialConv(convolve_separable),
    (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose): TransposedConv(),
    # dense.py, einsum.py
    (layers.Dense,): Dense(),
    (layers.EinsumDense,): EinsumLayer(),
    (layers.Dot,): EinsumOfTensors(dot_layer),
    # pool.py, global_pool.py
    (layers.MaxPooling1D,): MaxPool(),
    (layers.AveragePooling1D,): AveragePool(),
    (layers.MaxPooling2D, layers.MaxPooling3D): SpatialMaxPool(),
    (layers.AveragePooling2D, layers.AveragePooling3D): SpatialAveragePool(),
    (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D): Maximum(spatial_axes),
    (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D): LinearReduce(
        spatial_axes, mean=True
    ),
    # combine.py
    (layers.Add,): SUM,
    (layers.Subtract,): DIFFERENCE,
    (layers.Average,): LinearMerge(lambda n: [1.0 / n] * n),
    (layers.Multiply, layers.Maximum, layers.Minimum): MERGE,
    (layers.Concatenate,): Concatenate(),
    # reshape.py
    (layers.Reshape,): Reshaped(),
    (layers.Flatten,): Flatten(),
    (layers.Permute,): Transposed(permuted),
    # reshape.py, pool.py
    (layers.Cropping1D,): Move("cropping", -1),
    (layers.ZeroPadding1D,): Move("padding", +1),
    (layers.UpSampling1D,): Repeat(up_sampling),
    (layers.Cropping2D, layers.Cropping3D): SpatialMove("cropping", -1),
    (layers.ZeroPadding2D, layers.ZeroPadding3D): SpatialMove("padding", +1),
    (layers.UpSampling2D, layers.UpSampling3D): SpatialRepeat(),
    # dense.py
    (layers.Embedding,): Lookup(),
    (LetterIntegers,): ToIntegers(),
    # global_pool.py: --reduce
    (Sum,): WindowSum(),
    (Mean,): WindowMean(),
    (L2,): WindowNorm(),
    (Center,): CenterSum(),
    (Max,): WindowMax(),
    (Profile, Jsd): NeedsWholeHead(SOFTMAX),
    (LogSumExp,): NeedsWholeHead("the logarithm of a sum over all positions: computed in full, on the device"),
    (Select,): SelectTargets(),
    (Log2,): Pointwise(),
    (SummedConvolution,): SummedConvolutionRule(),
    # around_window.py
    (PooledBySoftmax,): PooledBySoftmaxRule(),
    # opaque.py: what engine/rewrite.py makes of MultiHeadAttention and GroupQueryAttention
    (AttentionOfProjections,): AttentionRule(),
    # recurrent.py: what engine/recurrences.py makes of LSTM, GRU, SimpleRNN, RNN and Bidirectional
    (Recurrence,): Recurrent(),
    # several_windows.py
    (FurtherWindow,): lambda node: FurtherWindowRule(node.layer.rule),
    (MaximumOverWindows,): lambda node: MaximumOverWindowsRule(node.layer.rule),
    # what engine/split_windows.py puts behind the layers that are linear
    (SumOfLetters,): SumOfLettersRule(),
    # opaque.py: for estimates
    (Supposed,): SupposedRule(),
}

# --- the table: operations --------------------------------------------------------------------------------------------

# By the names that Keras gives their classes, in lower case; a version of Keras may lack some.
OPERATIONS: dict[str, Choice] = {
    # pointwise.py
    "absolute abs fabs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil clip cos cosh deg2rad exp exp2 expm1 "
    "floor log log10 log1p log2 nantonum negative rad2deg reciprocal round sign sin sinc sinh sqrt square tan tanh "
    "trunc rsqrt erf erfc erfinv relu relu6 sigmoid sparsesigmoid softplus softsign softshrink sparseplus silu "
    "squareplus logsigmoid leakyrelu hardsigmoid hardsilu elu selu gelu celu tanhshrink hardtanh hardshrink "
    "threshold signbit isnan isinf isposinf isneginf isfinite isreal logicalnot bitwisenot bitwiseinvert real i0 "
    "digitize saturatecast": ONE_BY_ONE,
    "glu softmax logsoftmax sparsemax normalize rmsnorm layernorm sort argsort cumsum cumprod nancumsum "
    "nancumprod topk": Apply(axis=True),
    "takealongaxis": with_constant(Apply(axis=True), MergeAlong()),
    "oneslike zeroslike fulllike": fixed,
    "onehot": NewChannels(),
    "broadcastto": Broadcast(),
    "take": lambda node: Taken() if isinstance(arguments(node)[0], Input) else RowsOfTable(),
    "stopgradient copy": Identity(),
    "cast": Cast(),
    # pointwise.py with a constant, combine.py with another tensor
    "add": with_constant(WithConstant("add"), SUM),
    "subtract": with_constant(WithConstant("subtract"), DIFFERENCE),
    "multiply": with_constant(WithConstant("multiply"), MERGE),
    "divide truedivide": quotient,
    "dividenonan power maximum minimum fmax fmin arctan2 hypot logaddexp logaddexp2 mod fmod floordivide heaviside "
    "ldexp nextafter gcd lcm isclose greater greaterequal less lessequal equal notequal logicaland logicalor "
    "logicalxor bitwiseand bitwiseor bitwisexor bitwiseleftshift bitwiserightshift leftshift rightshift where "
    "select": with_constant(ONE_BY_ONE, MERGE),
    "concatenate": Concatenate(),
    # einsum.py
    "einsum": product(einsum),
    "matmul": product(matmul),
    "dot": product(dot),
    "inner": product(inner),
    "tensordot": product(tensordot),
    # global_pool.py
    "mean": LinearReduce(axis_argument, mean=True),
    "sum": LinearReduce(axis_argument, mean=False),
    "max": FromLowest(axis_argument),
    "amax": Maximum(axis_argument),
    "var": OverPositions(axis_argument, VARIANCE),
    "std": OverPositions(axis_argument, DEVIATION),
    "prod": OverPositions(axis_argument, PRODUCT),
    "norm": OverPositions(axis_argument, NORM),
    "logsumexp": OverPositions(axis_argument, LOG_SUM_EXP),
    "min amin all any argmax argmin countnonzero median quantile percentile average ptp "
    "nanmax nanmin nanmean nansum nanprod nanstd nanvar nanargmax nanargmin trapezoid": ChannelReduce(axis_argument),
    # reshape.py
    "reshape expanddims squeeze": Reshaped(),
    "transpose": Transposed(axes_argument),
    "swapaxes": Transposed(swapped),
    "moveaxis": Transposed(moved),
    "getitem": Sliced(item),
    "flip": Sliced(flip_axes),
    "pad": Padded(),
    "repeat": Repeat(repeats_argument),
}

# --- layers without a rule --------------------------------------------------------------------------------------------

# Why they have none, and what to do about it: for `fastism inspect` and docs/layers.md.
OPAQUE: dict[str, str] = {
    "RNN SimpleRNN GRU LSTM Bidirectional ConvLSTM1D ConvLSTM2D ConvLSTM3D": (
        "every position depends on those before it; all that helps is to place it late and keep its input short"
    ),
    "Attention AdditiveAttention": WHY_ATTENTION,
    "MultiHeadAttention GroupQueryAttention": f"after the projections of its inputs, {WHY_ATTENTION}",
    "GroupNormalization": (
        "normalises with the mean over all positions; a normalisation over the channels alone would be fast"
    ),
    "RepeatVector": "takes a tensor that has no positions",
    "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D": (
        "its bins are not all of one width: its output_size does not divide the length of its input"
    ),
    "Lambda": (
        "its function cannot be followed; write it with Keras layers and keras.ops, or as a class with a rule (--rules)"
    ),
    "TFSMLayer JaxLayer FlaxLayer TorchModuleWrapper Pipeline": (
        "the code inside cannot be read; write it as a layer class with a rule (--rules FILE.py)"
    ),
    "AutoContrast CenterCrop Equalization RandomCrop Resizing Solarization "
    "ContrastLimitedAdaptiveHistogramEqualization": "works on whole images",
}

# --- looking up -------------------------------------------------------------------------------------------------------

REASONS: dict[type, str] = {cls: reason for names, reason in OPAQUE.items() for cls in of_keras(names)}
RULES: dict[type, Choice] = {cls: rule for classes, rule in LAYERS.items() for cls in classes} | {
    cls: rule for names, rule in OPERATIONS.items() for name in names.split() if (cls := operation_class(name))
}
NAMED: dict[str, Choice] = {}  # for custom classes, by name


def register_rule(cls: type | str, rule: Rule | None = None, *, like: type | None = None) -> None:
    """Give a custom layer class a rule: a new one, or that of a Keras class.

    Parameters
    ----------
    cls : type or str
        The class itself, or its name, which holds for any class of that name outside of Keras.
    rule : Rule, optional
        The rule; see :class:`fastism_cli.rules.Rule`.
    like : type, optional
        A Keras class whose rule is right for ``cls`` too: ``cls`` must compute in the same way, with attributes of the
        same names.

    Raises
    ------
    RuleError
        If neither or both of ``rule`` and ``like`` are given, or ``like`` has no rule.
    """
    if (rule is None) == (like is None):
        raise RuleError(f"register_rule takes a rule or like=CLASS. Received: rule={rule!r}, like={like!r}")
    if like is not None and like not in RULES:
        known = ", ".join(sorted(c.__name__ for c in RULES))
        raise RuleError(f"{like.__name__} has no rule; choose one of: {known}")
    if rule is not None and not isinstance(rule, Rule):
        raise RuleError(f"a rule must be an object of a subclass of Rule. Received: {rule!r}")
    given = RULES[like] if like is not None else rule
    assert given is not None
    if isinstance(cls, str):
        NAMED[cls] = given
    else:
        RULES[cls] = given


def rule_of(node: Node) -> Rule | None:
    """The rule of this node; None if it has none, so that it is opaque."""
    if node.role == "activation":
        return ACTIVATION
    if node.role == OPAQUE_ROLE or quantisation(node.layer) or has_own_call(node.layer) or has_other_arguments(node):
        return None
    choice = RULES.get(type(node.layer)) or _named(type(node.layer))
    return choice if choice is None or isinstance(choice, Rule) else choice(node)


def _named(cls: type) -> Choice | None:
    return NAMED.get(cls.__name__) if not cls.__module__.startswith(("keras.", "tf_keras.")) else None


def why_opaque(layer: Any) -> str:
    """Why a layer has no rule and what to do about it, in one line."""
    cls = type(layer)
    if cls.__module__.startswith("fastism_cli.") and hasattr(layer, "why_opaque"):
        return str(layer.why_opaque)
    if mode := quantisation(layer):
        return f"quantised: every output may change ({mode}, scaled by the largest of its inputs)"
    if has_own_call(layer):
        return f"the call of this {cls.__name__} was replaced"
    if cls in REASONS:
        return REASONS[cls]
    if cls.__module__.startswith(("keras.", "tf_keras.")):
        return _why_of_keras(layer)
    like = next((base.__name__ for base in cls.__mro__[1:] if base in RULES), None)
    if like is not None:
        return (
            f"{cls.__name__} is a custom layer: if it computes like {like}, register_rule({cls.__name__}, like={like})"
        )
    return (
        f"{cls.__name__} is a custom layer, and its call is more than Keras layers and keras.ops: write it with those, "
        "or give it a rule with --rules FILE.py"
    )


def _why_of_keras(layer: Any) -> str:
    """Why a layer or an operation of Keras that no table names has no rule."""
    if function_of(layer) is not None:
        return "a model that is given a mask, or something else than tensors: call it on tensors alone"
    kind = "layer" if isinstance(layer, Layer) else "operation"
    return (
        f"the {kind} {type(layer).__name__} is not known to keep positions apart: use another one of docs/layers.md, "
        "or a layer class of your own with a rule (--rules FILE.py)"
    )
