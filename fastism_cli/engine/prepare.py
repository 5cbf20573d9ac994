"""Set up a model for the engines: from whatever was given to one frozen :class:`Prepared`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from fastism_cli.engine.live_positions import live_positions
from fastism_cli.engine.open_layers import with_layers_opened
from fastism_cli.engine.plan import Plan
from fastism_cli.engine.planner import make_plan, period_of
from fastism_cli.engine.rewrite import rewritten
from fastism_cli.engine.split_windows import with_windows_apart
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.model.adapt import as_functional, as_sequence_model, require_length_fits
from fastism_cli.model.graph import LayerGraph, Shape
from fastism_cli.model.heads import Head, Reduce, choose_heads
from fastism_cli.model.keras_graph import input_names, layer_graph, output_names
from fastism_cli.model.precision import dtype_of, with_dtype
from fastism_cli.model.sequence_inputs import Views, find_views, with_views
from fastism_cli.options.per_head import Units
from fastism_cli.options.run_options import parse_codes, parse_tie

MIN_GAIN = 1.2  # below this predicted speed-up, forward passes are as fast
PLANNED_POSITIONS = 256  # positions of the chunk that estimates rest on


@dataclass(frozen=True)
class Prepared:
    """A model that is ready for the engines.

    Attributes
    ----------
    model : keras.Model
        In the precision of the run. It takes the inputs that ``views`` make of the sequence.
    graph : LayerGraph
        What the fast engine computes: heads reduced, windows of a tensor apart.
    views : Views
        How the inputs of the model show the sequence.
    heads : tuple of Head
        What is scored.
    plan : Plan
        For a chunk in the middle of the sequence; `fastism inspect` shows it, and estimates rest on it.
    period : int
        Positions after which the plan repeats itself: the product of the strides.
    """

    model: Any
    precision: str
    alphabet: Alphabet
    graph: LayerGraph
    views: Views
    heads: tuple[Head, ...]
    plan: Plan
    period: int

    @property
    def sequence_index(self) -> int:
        """Which of the inputs is the sequence."""
        return self.views.sequence_index

    @property
    def input_names(self) -> list[str]:
        return [port.name for port in self.graph.inputs]

    @property
    def input_shapes(self) -> list[Shape]:
        """Without the batch axis."""
        return [self.graph.tensors[port.tensor].shape for port in self.graph.inputs]

    @property
    def input_dtypes(self) -> list[str]:
        return [self.graph.tensors[port.tensor].dtype for port in self.graph.inputs]

    @property
    def input_length(self) -> int:
        """Positions of the sequence."""
        return self.input_shapes[self.sequence_index][0]

    @property
    def input_tensor(self) -> int:
        """The tensor of the graph that is substituted in."""
        return self.graph.inputs[self.sequence_index].tensor

    @cached_property
    def live(self) -> range:
        """The positions that can change an output: the fast engine computes no others."""
        return live_positions(self.graph, self.input_tensor)


def prepare(
    model: Any,
    *,
    alphabet: str,
    precision: str,
    sequence_input: str | int | None = None,
    tie: str | None = None,
    codes: str | None = None,
    length: int | None = None,
    reduce: Reduce = None,
    targets: Mapping[str | None, Units | None] | None = None,
) -> Prepared:
    """Read a loaded model, rewrite its graph, and plan it. The options are those of :class:`FastISM`.

    Raises
    ------
    ModelError
        If no input of the model can hold a sequence.
    UsageError
        If an option does not fit the model.
    """
    letters, tied, integers = Alphabet(alphabet), parse_tie(tie), parse_codes(codes)
    model = _sequence_model(model, letters, [view.name for view in tied] or [sequence_input], length)
    run = with_dtype(model, dtype_of(precision))
    graph = with_layers_opened(layer_graph(run, length=length)).renamed(input_names(model), output_names(model))
    views = find_views(graph, letters, chosen=sequence_input, tied=tied, codes=integers)
    graph = with_views(graph, views, dtype_of(precision))
    sequence = graph.inputs[views.sequence_index].tensor
    length = graph.tensors[sequence].shape[0]
    shapes = {port.name: graph.tensors[port.tensor].shape for port in graph.outputs}
    heads = choose_heads(shapes, reduce, targets, substitutions=length * letters.size)
    graph = with_windows_apart(rewritten(graph, heads), sequence)
    period = period_of(graph, sequence)
    plan = _plan_of_the_middle(graph, sequence, length, period)
    return Prepared(run, precision, letters, graph, views, tuple(heads), plan, period)


def _sequence_model(model: Any, alphabet: Alphabet, inputs: Sequence[str | int | None], length: int | None) -> Any:
    """The model, with its sequence as (L, letters) in these inputs and its calls readable."""
    model = as_functional(model, length)
    for holder in inputs:
        model = as_sequence_model(model, alphabet.size, holder)
    require_length_fits(model, length)
    return model


def _plan_of_the_middle(graph: LayerGraph, sequence: int, length: int, period: int) -> Plan:
    size = min(period, length, PLANNED_POSITIONS)
    start = (length - size) // 2
    return make_plan(graph, sequence, size=size, phase=start % period, period=period)


class EngineChoice(NamedTuple):
    """ "fast" or "naive", and why."""

    name: str
    reason: str


def choose_engine(prepared: Prepared, asked: str) -> EngineChoice:
    """The engine for ``--engine``: the one that was asked for, or that with the smaller estimate.

    A model that passes masks on is always computed by forward passes.
    """
    if prepared.graph.keeps_masks:
        return EngineChoice("naive", "a layer passes a mask on, which only the whole model carries rightly")
    if asked != "auto":
        return EngineChoice(asked, "as asked")
    gain = prepared.plan.predicted_speedup
    if gain < MIN_GAIN:
        return EngineChoice("naive", f"delta propagation would save nothing (estimate {gain:.2f}x)")
    return EngineChoice("fast", f"estimate {gain:.1f}x over forward passes")
