"""Set up a loaded model for the engines: read it, rewrite its graph, plan it. The result is a frozen `Prepared`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from fastism_cli.engine.open_layers import with_functions, with_layers_opened
from fastism_cli.engine.plan import Plan
from fastism_cli.engine.planner import live_positions, make_plan, period_of
from fastism_cli.engine.recurrences import Lives, tried, with_recurrences_apart
from fastism_cli.engine.rewrite import rewritten, with_infinities_apart
from fastism_cli.engine.softmax_pooling import with_softmax_pooling
from fastism_cli.engine.split_windows import with_letters_apart, with_windows_apart
from fastism_cli.errors import UsageError, log_of
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.model import backend
from fastism_cli.model.adapt import (
    as_functional,
    as_sequence_model,
    require_any_batch,
    require_length_fits,
    with_targets,
)
from fastism_cli.model.graph import LayerGraph, Shape, WeightSets
from fastism_cli.model.heads import (
    Head,
    choose_heads,
    computed_heads,
    partners_of,
    require_batch_axis,
    with_logits,
)
from fastism_cli.model.keras_graph import input_names, layer_graph, output_names, quantised_layers, saved_in_training
from fastism_cli.model.precision import dtype_of, require_precision, with_dtype
from fastism_cli.model.reductions import Log2
from fastism_cli.model.sequence_inputs import Views, find_views, with_views
from fastism_cli.options.averages import Averages
from fastism_cli.options.choices import Reduce, Units
from fastism_cli.options.run_options import Scale, parse_codes, parse_scale, parse_tie
from fastism_cli.rules.frames import Blocks, every_position

logger = log_of(__name__)

MIN_GAIN = 1.2  # with a smaller predicted speed-up, forward passes are as fast
NUMBER = re.compile(r"_\d+$")  # that Keras adds to the name of a layer
PLANNED_POSITIONS = 256  # at most, of the chunk that the estimates are made for


@dataclass(frozen=True)
class Prepared:
    """A model that is ready for the engines.

    Attributes
    ----------
    model : keras.Model
        In the chosen precision. It takes the inputs that ``views`` make of the sequence.
    precision : str
        "float32", "tf32", "bfloat16" or "float64".
    alphabet : Alphabet
        The letters, in the order of the model's channels.
    graph : LayerGraph
        What the fast engine computes: with reduced heads, and a tensor of its own for each window of a tensor.
    views : Views
        How the inputs of the model hold the sequence.
    heads : tuple of Head
        The heads that the engine computes.
    plan : Plan
        For a chunk in the middle of the sequence. The estimates are made from it, and `fastism inspect` shows it.
    joined : LayerGraph
        The same as ``graph``, with one tensor for all windows of a tensor.
    wide_graph : LayerGraph, optional
        The same as ``graph``, for chunks in which a change lives longer than in a trial. None: it does not matter.
    in_training : tuple of str
        Layers that the model calls with ``training=True``. They are run with ``training=False``.
    weights : WeightSets
        Of the variables of ``model``.
    names : PortNames
        All inputs and heads of the model.
    scored : tuple of Head
        The heads that are scored: ``heads``, unless averages are made of more targets, or before the reductions.
    partners : mapping of head name to mapping of target to target
        What the reverse complement exchanges, by the model's name of the head.
    of_letters : LayerGraph, optional
        Where ``graph`` is for pairs of letters: that for single ones.
    """

    model: Any
    precision: str
    alphabet: Alphabet
    graph: LayerGraph
    views: Views
    heads: tuple[Head, ...]
    plan: Plan
    joined: LayerGraph
    weights: WeightSets
    names: PortNames
    scored: tuple[Head, ...]
    partners: Mapping[str, Mapping[int, int]]
    wide_graph: LayerGraph | None = None
    in_training: tuple[str, ...] = ()
    of_letters: LayerGraph | None = None

    @property
    def sequence_index(self) -> int:
        """The index of the input that is the sequence."""
        return self.views.sequence_index

    @property
    def input_names(self) -> list[str]:
        return [port.name for port in self.graph.inputs]

    @property
    def input_shapes(self) -> list[Shape]:
        """The shape of each input without the batch axis."""
        return [self.graph.tensors[port.tensor].shape for port in self.graph.inputs]

    @property
    def input_dtypes(self) -> list[str]:
        return [self.graph.tensors[port.tensor].dtype for port in self.graph.inputs]

    @property
    def input_length(self) -> int:
        """How many positions the sequence has."""
        return self.input_shapes[self.sequence_index][0]

    @property
    def input_tensor(self) -> int:
        """The tensor of the graph that holds the sequence."""
        return self.graph.inputs[self.sequence_index].tensor

    @cached_property
    def live(self) -> range:
        """The positions that can change an output. The fast engine computes only these."""
        return live_positions(self.of_letters or self.graph, self.input_tensor)

    def period(self, blocks: Blocks) -> int:
        """Blocks after which the plan repeats itself: the least number that moves every frame by whole rows.

        A frame's ``step`` is rows for each block, 1/2 for blocks at every position after a stride of 2; the period is
        the least common multiple of the denominators of all steps.
        """
        return period_of(self.graph, self.input_tensor, blocks)

    def for_blocks(self, blocks: Blocks, alternates: int, engine: str) -> Prepared:
        """The same model, ready for the replacement of blocks or pairs, of each by so many ``alternates``."""
        with backend.matrix_precision(self.precision):
            graph, wide = with_windows(self.joined, self.input_tensor, self.model.variables, engine, blocks)
        plan = plan_of_the_middle(graph, self.input_tensor, blocks)
        plan = replace(plan, changes=max(blocks.count * alternates, 1))
        of_letters = self.graph if blocks.distances else None
        return replace(self, graph=graph, wide_graph=wide, plan=plan, of_letters=of_letters)


def prepare(
    model: Any,
    *,
    alphabet: str,
    precision: str,
    sequence_input: str | int | None = None,
    tie: str | None = None,
    codes: str | None = None,
    length: int | None = None,
    reduce: Reduce | None = None,
    targets: Mapping[str | None, Units | None] | None = None,
    engine: str = "auto",
    scale: str | Sequence[str] = (),
    averages: Averages = Averages(),  # noqa: B008  (a frozen value)
    like: PortNames | None = None,
) -> Prepared:
    """Read a loaded model, rewrite its graph, and plan it.

    The options are those of :class:`fastism_cli.engine.fastism.FastISM`. Only the engines "auto" and "fast" need to
    know how long a change lives in recurrent layers, which is tried out. ``like`` are the names of another model, by
    which the options call the inputs and heads of this one.

    Raises
    ------
    ModelError
        If no input of the model can hold a sequence.
    UsageError
        If an option does not fit the model.
    """
    letters, tied, integers = Alphabet(alphabet), parse_tie(tie), parse_codes(codes)
    scales, model = parse_scale(scale), as_functional(model, length)
    require_batch_axis(model)
    model = with_targets(model)
    shown, own = names_of(model, like), names_of(model)
    scaled = _scales_of_heads(shown.outputs, scales, targets) if scales else {}
    logits = {name for name, known in zip(own.outputs, shown.outputs, strict=True) if _is_logit(scaled.get(known))}
    model = with_logits(model, logits) if logits else model
    own_name: dict[Any, str] = dict(zip(shown.inputs, own.inputs, strict=True))
    holders: list[Any] = [view.name for view in tied] or [sequence_input]
    model = _sequence_model(model, letters, [own_name.get(name, name) for name in holders], length)
    require_precision(model, precision)
    run = with_dtype(model, dtype_of(precision))
    graph = with_layers_opened(layer_graph(run, length=length)).renamed(*names_of(model, like))
    views = find_views(graph, letters, chosen=sequence_input, tied=tied, codes=integers)
    graph = with_views(graph, views, dtype_of(precision))
    sequence = graph.inputs[views.sequence_index].tensor
    length = graph.tensors[sequence].shape[0]
    shapes = {port.name: graph.tensors[port.tensor].shape for port in graph.outputs}
    heads = choose_heads(shapes, reduce, targets, substitutions=length * letters.size)
    added = {name: Log2(asked.added) for name, asked in scaled.items() if asked.kind == "log2"}
    heads = [replace(head, scale=added.get(head.source_name)) for head in heads]
    partners = partners_of(heads, shapes, averages.pairs)
    computed = computed_heads(heads, partners, whole=averages.average == "outputs")
    graph = rewritten(with_functions(graph, computed), computed)
    joined = with_infinities_apart(with_softmax_pooling(graph, sequence), sequence)
    with backend.matrix_precision(precision):
        graph, wide = with_windows(joined, sequence, run.variables, engine, every_position(length))
    plan = plan_of_the_middle(graph, sequence, every_position(length))
    in_training = tuple(dict.fromkeys([*saved_in_training(model), *saved_in_training(run)]))
    if in_training:
        logger.warning(training_line(in_training))
    return Prepared(
        run,
        precision,
        letters,
        graph,
        views,
        tuple(computed),
        plan,
        joined,
        WeightSets(run.variables),
        names_of(model, like),
        tuple(heads),
        partners,
        wide,
        in_training,
    )


class PortNames(NamedTuple):
    """Names of the inputs and heads of a model, in its order."""

    inputs: list[str]
    outputs: list[str]


def names_of(model: Any, like: PortNames | None = None) -> PortNames:
    """The names of a model's inputs and heads, or those that they have in another model.

    Raises
    ------
    UsageError
        If the other model has other inputs or heads.
    """
    own = PortNames(input_names(model), output_names(model))
    if like is None:
        return own
    return PortNames(_called("inputs", own.inputs, like.inputs), _called("heads", own.outputs, like.outputs))


def _called(what: str, own: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names as another model has them: the same, in any order, or the same but for the number at the end.

    Keras numbers layers without a name in the order in which a process makes them: ``dense_1`` is ``dense_4`` of the
    next model that it builds.
    """
    if sorted(own) == sorted(known):
        return list(own)
    if [NUMBER.sub("", name) for name in own] == [NUMBER.sub("", name) for name in known]:
        return list(known)
    raise UsageError(
        f"its {what} are {', '.join(own)}, those of the first model {', '.join(known)}. Scores are averaged over "
        f"models of the same {what}."
    )


def _is_logit(scale: Scale | None) -> bool:
    return scale is not None and scale.kind == "logit"


def with_windows(
    graph: LayerGraph, sequence: int, variables: Sequence[Any], engine: str, blocks: Blocks
) -> tuple[LayerGraph, LayerGraph | None]:
    """The graph with recurrences, letters of pairs, and windows apart; that for changes that outlive a trial."""
    width = blocks.width

    def apart(lives: Lives) -> LayerGraph:
        found = with_recurrences_apart(graph, sequence, lives, width=width)
        if blocks.distances:
            found = with_letters_apart(found, sequence, blocks.distances)
        return with_windows_apart(found, sequence, width)

    lives = tried(graph, sequence, variables, width=width) if engine != "naive" else {}
    return apart(lives), apart({}) if lives else None


def _scales_of_heads(
    names: Sequence[str], scales: Mapping[str | None, Scale], targets: Mapping[str | None, Units | None] | None
) -> dict[str, Scale]:
    """The scale of each scored head that has one."""
    unknown = [name for name in scales if name is not None and name not in names]
    if unknown:
        raise UsageError(f"--scale: the model has no head {unknown[0]!r}. Its heads: {', '.join(names)}.")
    scored = [name for name in names if not targets or name in targets or None in targets]
    found = {name: scales.get(name, scales.get(None)) for name in scored}
    return {name: scale for name, scale in found.items() if scale is not None}


def training_line(names: Sequence[str]) -> str:
    """The warning about layers that were saved with ``training=True``."""
    was, it_is = ("was", "it is") if len(names) == 1 else ("were", "they are")
    listed = ", ".join(f"'{name}'" for name in names)
    return f"{listed} {was} saved with training=True; {it_is} run with training=False"


def _sequence_model(model: Any, alphabet: Alphabet, inputs: Sequence[str | int | None], length: int | None) -> Any:
    """The functional model as one whose inputs ``inputs`` hold the sequence as (L, letters)."""
    require_any_batch(model)
    for holder in inputs:
        model = as_sequence_model(model, alphabet.size, holder)
    require_length_fits(model, length)
    return model


def plan_of_the_middle(graph: LayerGraph, sequence: int, blocks: Blocks) -> Plan:
    """The plan of a chunk in the middle of the blocks of the sequence, which is the tensor ``sequence``."""
    period = period_of(graph, sequence, blocks)
    size = min(period, blocks.count, PLANNED_POSITIONS)
    start = (blocks.count - size) // 2 // blocks.repeats * blocks.repeats
    return make_plan(graph, sequence, blocks, size=size, phase=start % period, period=period)


class EngineChoice(NamedTuple):
    """ "fast" or "naive", and why."""

    name: str
    reason: str


def choose_engine(prepared: Prepared, asked: str) -> EngineChoice:
    """Choose the engine for ``--engine``: the one asked for, or for "auto" the one with the smaller estimate.

    A model that passes masks on is always computed by forward passes, a quantised one unless "fast" is asked for.
    """
    if prepared.graph.keeps_masks:
        return EngineChoice("naive", "a layer passes a mask on, which only forward passes follow")
    if asked != "auto":
        return EngineChoice(asked, "as asked")
    if quantised_layers(prepared.model):
        return EngineChoice("naive", "quantised layers round: another order of the same sums can round otherwise")
    gain = prepared.plan.predicted_speedup
    if gain < MIN_GAIN:
        return EngineChoice("naive", f"delta propagation would save no time (estimated {gain:.2f}x)")
    return EngineChoice("fast", f"estimated {gain:.1f}x faster than forward passes")
