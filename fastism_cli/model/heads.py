"""Choose the heads of a model to score, their targets and reductions, and take them before a sigmoid or softmax."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import keras

from fastism_cli.errors import ModelError, UsageError, size_text
from fastism_cli.model.graph import Shape
from fastism_cli.model.keras_graph import function_of, output_names, producer_of
from fastism_cli.model.loading.config_entries import plain_name
from fastism_cli.model.reductions import Log2, OwnReduction, Reduction, Select, make_reduction
from fastism_cli.options.choices import (
    REDUCTIONS,
    Kind,
    Reduce,
    Units,
    by_head,
    kinds_of,
    name_of_function,
    reductions_of,
)


@dataclass(frozen=True)
class Head:
    """One scored output.

    Attributes
    ----------
    name : str
        The model's name for it; ``NAME.REDUCTION`` where one head is reduced in several ways.
    shape : tuple of int
        Shape of the scores, without the batch axis.
    full_shape : tuple of int
        Shape of the model's output, without the batch axis.
    reduce : str
        "none", the kind of reduction, or "function NAME".
    source : int
        Index of the model's output.
    source_name : str
        The model's name for it.
    units : tuple of int or None
        The targets of the last axis that are kept, in this order; None for all.
    scale : Log2 or None
        What the head is put through after its reduction.
    own : OwnReduction or None
        The function of the user's that reduces the head; the targets are those that it gives.
    """

    name: str
    shape: Shape
    full_shape: Shape
    reduce: str
    source: int = 0
    source_name: str = ""
    units: Units | None = None
    scale: Log2 | None = None
    own: OwnReduction | None = None

    @property
    def reduction(self) -> Reduction | None:
        return None if self.reduce == "none" else self.own or make_reduction(self.reduce)

    def score(self, y: Any, reference: Any) -> Any:
        """Reduce and scale outputs (batch, *full shape of the targets), beside those of the references.

        A function of the user's is given all targets of the output.
        """
        reduction = self.reduction
        reduced = reduction(y, reference) if reduction else y
        if self.own is not None and self.units is not None:
            reduced = Select(self.units)(reduced)
        return self.scale(reduced) if self.scale else reduced

    @property
    def n_targets(self) -> int:
        """How many targets there are to choose from: 1 for a flat head that is reduced."""
        if self.own is not None:
            return self.own.n_targets
        return 1 if self.is_reduced_flat else self.full_shape[-1]

    @property
    def chosen_first(self) -> Units | None:
        """The targets that are chosen before the head is reduced; None if all are kept until then."""
        return None if self.own is not None or self.is_reduced_flat else self.units

    @property
    def port(self) -> str:
        """The name of what a function of the user's gives, as an output of the graph."""
        return f"{self.source_name}:{self.reduce}"

    @property
    def is_reduced_flat(self) -> bool:
        return self.reduce != "none" and len(self.full_shape) == 1


def require_batch_axis(model: Any) -> None:
    """Raise :class:`ModelError` if an output of a model for any batch does not have one row for each sequence."""
    function = function_of(model)
    if function is None or any(x.shape[0] is not None for x in function.inputs):
        return
    for name, y in zip(output_names(model), function.outputs, strict=True):
        if y.shape[:1] != (None,):
            raise ModelError(
                f"Output {name!r} has shape {tuple(y.shape)}, without an axis for the batch in front: it mixes the "
                "sequences of a batch. Leave axis 0 out of sums, means and reshapes, and save the model again."
            )


def choose_heads(
    shapes: Mapping[str, Shape],
    reduce: Reduce | None,
    targets: Mapping[str | None, Units | None] | None,
    *,
    substitutions: int,
) -> list[Head]:
    """Choose the heads to score, in the order of the model; with ``targets``, only the heads named there.

    Parameters
    ----------
    shapes : mapping of head name to shape without the batch axis
    reduce : str, sequence of str, or mapping of head name to one of them
        The name None, or no mapping, stands for all positional heads that are not named. "none" keeps a head whole.
    targets : mapping of head name to targets, optional
        None in the place of targets stands for all; None in the place of a name for the only head.
    substitutions : int
        Deltas of each target for one sequence, length x letters; for the estimate of size in a message.

    Raises
    ------
    UsageError
        If a head, a target or a reduction does not exist, or a positional head has no reduction.
    """
    kinds = _kinds(shapes, reduce)
    chosen = by_head("--targets", shapes, targets or {})
    names = [name for name in shapes if not targets or name in chosen]
    unreduced = [name for name in names if len(shapes[name]) > 1 and name not in kinds]
    if unreduced:
        raise UsageError(_unreduced(unreduced, shapes, substitutions))
    sources = list(shapes)
    heads = [
        _head(name, kind, shapes[name], sources.index(name), chosen.get(name), several=len(kinds.get(name, ())) > 1)
        for name in names
        for kind in kinds.get(name, ("none",))
    ]
    _require_apart(heads)
    return heads


def _require_apart(heads: Sequence[Head]) -> None:
    """Raise :class:`UsageError` if a head is reduced by two functions of one name."""
    names = [head.name for head in heads]
    twice = next((head for head in heads if head.own and names.count(head.name) > 1), None)
    if twice is not None:
        raise UsageError(f"--reduce: two heads of the result would be called {twice.name!r}. Name the functions apart.")


def computed_heads(heads: Sequence[Head], partners: Mapping[str, Mapping[int, int]], *, whole: bool) -> list[Head]:
    """The heads that the engine computes so that ``heads`` can be averaged.

    Parameters
    ----------
    partners : mapping of head name to mapping of target to target
        Targets that the reverse complement exchanges, by the model's name of the head: both are computed.
    whole : bool
        Compute each head of the model once and as it is, to be reduced and scaled after the average.
    """
    for head in heads:
        _require_function_fits(head, partners, whole=whole)
    with_partners = [_with_partners(head, partners.get(head.source_name, {})) for head in heads]
    if not whole:
        return with_partners
    return list({head.source_name: _whole(head) for head in with_partners}.values())


def _require_function_fits(head: Head, partners: Mapping[str, Mapping[int, int]], *, whole: bool) -> None:
    """Raise :class:`UsageError` if a function of the user's makes other targets than an option means."""
    if head.own is None:
        return
    where = f"of head {head.source_name!r} are those that {head.own.kind} gives"
    if whole and head.units is not None:
        raise UsageError(f"--targets {where}, and --average outputs is before it: leave one of the two out.")
    if not whole and partners.get(head.source_name):
        raise UsageError(f"--rc-pairs numbers targets of the model, and those {where}. Use --average outputs.")


def _with_partners(head: Head, partners: Mapping[int, int]) -> Head:
    if head.units is None:
        return head
    units = tuple(dict.fromkeys([*head.units, *(partners.get(unit, unit) for unit in head.units)]))
    return replace(head, units=units, shape=(*head.shape[:-1], len(units)))


def _whole(head: Head) -> Head:
    units = None if head.is_reduced_flat else head.units
    shape = head.full_shape if units is None else (*head.full_shape[:-1], len(units))
    return replace(head, name=head.source_name, shape=shape, reduce="none", units=units, scale=None, own=None)


def partners_of(
    heads: Sequence[Head], shapes: Mapping[str, Shape], pairs: Mapping[str | None, Sequence[tuple[int, int]]]
) -> dict[str, dict[int, int]]:
    """For each head with ``pairs`` of targets, by the model's name: the target that stands for the other strand.

    Parameters
    ----------
    shapes : mapping of head name to shape without the batch axis
        All heads of the model.

    Raises
    ------
    UsageError
        If a head or a target does not exist.
    """
    found: dict[str, dict[int, int]] = {}
    for name, given in by_head("--rc-pairs", shapes, pairs).items():
        flat = any(head.is_reduced_flat for head in heads if head.source_name == name)
        count, most = 1 if flat else shapes[name][-1], max(target for pair in given for target in pair)
        if most >= count:
            raise UsageError(f"--rc-pairs: head {name!r} has {count} targets, numbered from 0. Received: {most}")
        found[name] = {one: other for pair in given for one, other in (pair, pair[::-1])}
    return found


def _head(name: str, kind: Kind, full: Shape, source: int, units: Units | None, *, several: bool) -> Head:
    if not isinstance(kind, str):
        own = OwnReduction(name, kind, full)
        called = f"{name}.{name_of_function(kind)}" if several else name
        found = Head(called, (own.n_targets,), full, own.kind, source, name, units, own=own)
        return _with_targets(found)
    if kind != "none":
        make_reduction(kind).check(name, full)
    shape = full if kind == "none" else (full[-1] if len(full) > 1 else 1,)
    return _with_targets(Head(f"{name}.{kind}" if several else name, shape, full, kind, source, name, units))


def _with_targets(head: Head) -> Head:
    """The head with the shape of its chosen targets."""
    units = head.units
    if units is None:
        return head
    if max(units, default=0) >= head.shape[-1]:
        has = f"head {head.source_name!r} has {head.shape[-1]} targets"
        raise UsageError(f"--targets: {has}, numbered from 0. Received: {max(units)}")
    return replace(head, shape=(*head.shape[:-1], len(units)))


def _kinds(shapes: Mapping[str, Shape], reduce: Reduce | None) -> dict[str, tuple[Kind, ...]]:
    """The reductions of each head, for the heads that are reduced."""
    asked = reduce if isinstance(reduce, Mapping) else {} if reduce is None else {None: reduce}
    kinds = {name: reductions_of(name, kinds_of(values)) for name, values in asked.items()}
    for name in kinds:
        if name is not None and name not in shapes:
            raise UsageError(f"--reduce: the model has no head {name!r}. Its heads: {', '.join(shapes)}.")
    rest = kinds.pop(None, None)
    positional = [name for name, shape in shapes.items() if len(shape) > 1] if rest else []
    if any(callable(kind) for kind in rest or ()) and not positional:
        raise UsageError(
            f"--reduce: no head has positions. Name the head that the function reduces: {', '.join(shapes)}."
        )
    return {name: rest for name in positional if rest} | {n: k for n, k in kinds.items() if n is not None}


def _unreduced(names: Sequence[str], shapes: Mapping[str, Shape], substitutions: int) -> str:
    lines = []
    for name in names:
        size = 4 * prod(shapes[name]) * substitutions
        lines.append(
            f"head {name!r} has shape {shapes[name]}: kept whole, one region takes {size_text(size)} "
            f"and 100,000 regions {size_text(size * 100_000)}"
        )
    kinds = ", ".join(kind for kind in REDUCTIONS if kind != "none")
    return "; ".join(lines) + f". Reduce it over its positions with --reduce {kinds} (none keeps it whole)."


# --- heads before their last sigmoid or softmax ----------------------------------------------------------------------

PROBABILITIES = ("sigmoid", "softmax")
# Layers whose activation is the last that they do.
ACTIVATED = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.SeparableConv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.Conv1DTranspose,
)
# Layers that leave the numbers as they are at inference: a sigmoid may come before them.
PASSING = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def with_logits(model: Any, heads: Collection[str]) -> Any:
    """The same model, but for these heads: they end before their last sigmoid or softmax.

    Parameters
    ----------
    heads : collection of str
        As :func:`fastism_cli.model.keras_graph.output_names` calls them.

    Raises
    ------
    UsageError
        If a head has neither, or the model is no graph of Keras 3.
    """
    function = function_of(model)
    if function is None:
        raise UsageError("--scale logit: the model is no graph of Keras layers, so that its last sigmoid is not known.")
    names = output_names(model)
    outputs = [_logit(name, y) if name in heads else y for name, y in zip(names, function.outputs, strict=True)]
    inner = keras.Model(function.inputs, outputs)
    # a model around it, in which the heads can have their names: layers inside have them already
    symbols = [keras.Input(x.shape[1:], name=x.name, dtype=x.dtype) for x in function.inputs]
    pairs = zip(names, keras.tree.flatten(inner(symbols)), strict=True)
    named = [keras.layers.Identity(name=plain_name(name))(y) for name, y in pairs]
    return keras.Model(symbols, named if len(named) > 1 else named[0], name=model.name)


def _logit(head: str, tensor: Any) -> Any:
    found = before_activation(tensor)
    if found is None:
        made = producer_of(tensor)
        raise UsageError(
            f"--scale logit: head {head!r} ends in {type(made.operation).__name__} {made.operation.name!r}, which is "
            "neither a sigmoid nor a softmax. Name the heads that are probabilities: --scale HEAD=logit."
        )
    return found


def before_activation(tensor: Any) -> Any:
    """What the last sigmoid or softmax of a symbolic tensor is computed from; None if there is none."""
    made = producer_of(tensor)
    operation = made.operation
    nested = function_of(operation)
    if nested is not None:
        inner = before_activation(nested.outputs[made.number])
        return None if inner is None else keras.Model(nested.inputs, inner)(made.inputs)
    (first, *others) = made.inputs or [None]
    if first is None or others:
        return None
    if type(operation) in PASSING or _activation(operation) == "linear":
        inner = before_activation(first)
        return None if inner is None else _twin(operation, inner)
    if type(operation) is keras.layers.Activation or type(operation) not in ACTIVATED:
        return first if _activation(operation) in PROBABILITIES else None
    return _linear(operation, first) if _activation(operation) in PROBABILITIES else None


def _activation(operation: Any) -> str:
    """The activation that an operation ends in, by name; empty for one that is not of Keras."""
    kind = type(operation)
    if type(operation) in ACTIVATED:
        known = {keras.activations.linear: "linear", None: ""}
        known |= {getattr(keras.activations, name): name for name in PROBABILITIES}
        name = known.get(operation.activation, "")
        return "" if name == "linear" and kind is not keras.layers.Activation else name
    return kind.__name__.lower() if kind.__module__.startswith("keras.") and kind.__name__ in OPERATIONS else ""


OPERATIONS = ("Sigmoid", "Softmax")  # keras.ops.sigmoid and softmax, and the layer Softmax


def _linear(layer: Any, tensor: Any) -> Any:
    """A layer of the same weights and without its activation, called on a tensor."""
    return _twin(layer, tensor, activation="linear")


def _twin(layer: Any, tensor: Any, **changed: Any) -> Any:
    """A layer of the same weights and another name, called on a tensor."""
    twin = type(layer).from_config({**layer.get_config(), "name": f"{layer.name}_logits", **changed})
    found = twin(tensor)
    twin.set_weights(layer.get_weights())
    return found
