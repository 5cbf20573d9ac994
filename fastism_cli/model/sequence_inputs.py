"""Find the inputs that hold the sequence: one-hot or as integers, forward or as its reverse complement.

The engines substitute in one tensor, the one-hot sequence (L, letters). Every input of the model that holds the
sequence is a view of it, computed from it by nodes in front of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.errors import ModelError, SequenceError, UsageError, log_of
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.model.graph import LayerGraph, Node, Port, Shape, Tensor
from fastism_cli.model.keras_graph import flip_operation
from fastism_cli.model.reductions import Select
from fastism_cli.options.run_options import Tied

logger = log_of(__name__)

KEEP_NUMBERS = frozenset("Cast Reshape Flatten Permute Transpose Squeeze ExpandDims Identity".split())
HOW_TO_CODE = "Give the integer of each letter with --codes, as in --codes A=1,C=2,G=3,T=4,N=0"
# Times the letters and N: an Embedding of letters has some rows more, as for padding, one of k-mers has 4 ** k.
MAX_ROWS = 4


class LetterIntegers:
    """Turn one-hot rows (..., letters) into the integers (...) that the model has for letters; zeros into that of N."""

    name = "letter_codes"

    def __init__(self, integers: tuple[int, ...], unknown: int, dtype: str) -> None:
        self.integers, self.unknown, self.dtype = integers, unknown, dtype

    def __call__(self, x: Any) -> Any:
        above = ops.convert_to_tensor(np.array(self.integers) - self.unknown, dtype=x.dtype)
        return ops.cast(ops.sum(x * above, axis=-1) + self.unknown, self.dtype)


@dataclass(frozen=True)
class View:
    """One input of the model that holds the sequence: ``reverse`` as its reverse complement, or as ``integers``."""

    index: int
    reverse: bool
    integers: LetterIntegers | None


@dataclass(frozen=True)
class Views:
    """All inputs that hold the sequence; the first gives it its name.

    Attributes
    ----------
    knows_unknown : bool
        Whether every view has a value for an N.
    """

    views: tuple[View, ...]
    alphabet: Alphabet
    n_inputs: int
    knows_unknown: bool

    @property
    def primary(self) -> View:
        return self.views[0]

    @property
    def is_coded(self) -> bool:
        return any(view.integers is not None for view in self.views)

    @property
    def kept(self) -> list[int]:
        """Inputs of the model that the engines are given: all but those tied to the sequence."""
        tied = {view.index for view in self.views[1:]}
        return [i for i in range(self.n_inputs) if i not in tied]

    @property
    def sequence_index(self) -> int:
        """Which of the inputs that the engines are given is the sequence."""
        return self.kept.index(self.primary.index)

    @property
    def are_plain(self) -> bool:
        """Whether the one-hot sequence itself is the only view."""
        return len(self.views) == 1 and not self.steps(self.primary)

    def steps(self, view: View) -> list[Any]:
        """The operations that make a view of the sequence, in the order of their calls."""
        steps: list[Any] = []
        if view.reverse:
            steps = [flip_operation(axis=1), Select(self.alphabet.complements)]
        return steps if view.integers is None else [*steps, view.integers]

    def expand(self, arrays: Sequence[Any]) -> list[Any]:
        """Make all inputs of the model from those that the engines are given."""
        found = dict(zip(self.kept, arrays, strict=True))
        sequence = found[self.primary.index]
        for view in self.views:
            shown = sequence
            for step in self.steps(view):
                shown = step(shown)
            found[view.index] = shown
        return [found[i] for i in range(self.n_inputs)]

    def one_hot(self, x: np.ndarray, name: str) -> np.ndarray:
        """The sequence that a user gave, as one-hot rows: integers of the model are turned back into letters.

        Raises
        ------
        SequenceError
            If an integer stands for no letter.
        """
        integers = self.primary.integers
        if integers is None or x.ndim != 2:
            return x
        found = np.full(x.shape, self.alphabet.unknown, dtype=np.uint8)
        for code, integer in enumerate(integers.integers):
            found[x == integer] = code
        wrong = (found == self.alphabet.unknown) & ~((x == integers.unknown) & self.knows_unknown)
        if wrong.any():
            sequence, position = (int(i[0]) for i in np.nonzero(wrong))
            raise SequenceError(
                f"Input {name!r}: sequence {sequence}, position {position} holds {x[sequence, position]}, which is the "
                f"code of no letter. {HOW_TO_CODE}"
            )
        return self.alphabet.one_hot(found)


def find_views(
    graph: LayerGraph,
    alphabet: Alphabet,
    *,
    chosen: str | int | None = None,
    tied: Sequence[Tied] = (),
    codes: Mapping[str, int] | None = None,
) -> Views:
    """Find the inputs that hold the sequence: the only one that can, the chosen one, or all that are tied together.

    An input of shape (length, letters) is one-hot; one of shape (length,) holds integers, and is taken without being
    named only if an Embedding reads it.

    Raises
    ------
    ModelError
        If no input or more than one can hold the sequence. Lists every input.
    UsageError
        If ``tied`` or ``codes`` do not fit the model.
    """
    shapes = {port.name: graph.tensors[port.tensor].shape for port in graph.inputs}
    names = list(shapes)
    fitting = [i for i, shape in enumerate(shapes.values()) if len(shape) == 2 and shape[1] == alphabet.size]
    fitting = fitting or _embedded(graph)
    if tied:
        primary, chosen_views = _tied(names, shapes, tied, chosen, alphabet)
    else:
        primary = _chosen(shapes, chosen, fitting, alphabet)
        chosen_views = {primary: False}
    indices = [primary, *(i for i in chosen_views if i != primary)]
    coders = {i: _coder(graph, i, alphabet, codes) for i in indices if len(shapes[names[i]]) == 1}
    if codes and not coders:
        raise UsageError(f"--codes: the input {names[primary]!r} is one-hot, shape {shapes[names[primary]]}.")
    views = tuple(View(i, chosen_views[i], coders[i][0] if i in coders else None) for i in indices)
    return Views(views, alphabet, len(names), all(knows for _, knows in coders.values()))


def _embedded(graph: LayerGraph) -> list[int]:
    """Inputs of shape (length,) that an Embedding reads."""
    return [i for i, port in enumerate(graph.inputs) if _embeddings(graph, port.tensor)]


def _embeddings(graph: LayerGraph, tensor: int) -> list[Any]:
    readers = (node for node in graph.nodes if tensor in node.inputs)
    is_row = len(graph.tensors[tensor].shape) == 1
    return [node.layer for node in readers if is_row and node.class_name == "Embedding"]


def integers_known(graph: LayerGraph, tensor: int) -> int | None:
    """How many integers, from 0 on, are known to the Embeddings that read a tensor; None if none reads it."""
    readers = _readers_of_numbers(graph, tensor)
    return min((node.layer.input_dim for node in readers if node.class_name == "Embedding"), default=None)


def _letters_known(graph: LayerGraph, tensor: int) -> int | None:
    """The same for letters, where one_hot counts too: it would make an N of a letter that it does not know."""
    classes = (node.layer.num_classes for node in _readers_of_numbers(graph, tensor) if node.class_name == "OneHot")
    return min((n for n in (integers_known(graph, tensor), *classes) if n is not None), default=None)


def _readers_of_numbers(graph: LayerGraph, tensor: int) -> Iterator[Node]:
    """Nodes that read the numbers of a tensor, perhaps in another type or shape."""
    waiting = [tensor]
    while waiting:
        read = waiting.pop()
        for node in graph.nodes:
            if read in node.inputs and node.class_name in KEEP_NUMBERS:
                waiting.extend(node.outputs)
            elif read in node.inputs:
                yield node


def _listing(shapes: Mapping[str, Shape]) -> str:
    return "; ".join(f"{name!r} {shape}" for name, shape in shapes.items())


def _chosen(shapes: Mapping[str, Shape], chosen: str | int | None, fitting: Sequence[int], alphabet: Alphabet) -> int:
    names, listing = list(shapes), _listing(shapes)
    if chosen is None:
        if len(fitting) == 1:
            return fitting[0]
        what = "No input" if not fitting else f"{len(fitting)} inputs"
        hint = " Choose one with --sequence-input, or tie equal ones with --tie."
        if not fitting:
            hint = f" --alphabet names the letters in the order of the channels; it is {alphabet.letters}."
            if any(len(shape) == 1 for shape in shapes.values()):
                hint += " Integers of letters that no Embedding reads: name their input with --sequence-input."
            hint += _wrapped(shapes, alphabet.size)
        raise ModelError(
            f"{what} of the model can hold a sequence of shape (length, {alphabet.size}): {listing}.{hint}"
        )
    index = names.index(chosen) if chosen in names else chosen
    if not isinstance(index, int) or not 0 <= index < len(names):
        raise ModelError(f"The model has no input {chosen!r}. Its inputs: {listing}.")
    require_sequence(names[index], shapes[names[index]], alphabet, listing)
    return index


def _wrapped(shapes: Mapping[str, Shape], letters: int) -> str:
    """How a model whose letters share an input with something else, or are flat, is given an input of letters."""
    model = f" Wrap the model: x = keras.Input((length, {letters})); "
    if wide := [n for shape in shapes.values() for n in shape[1:2] if len(shape) == 2 and n and n > letters]:
        signals = f"y = keras.Input((length, {wide[0] - letters})); "
        joined = "model(keras.layers.Concatenate()([x, y]))"
        return f" Channels beside the letters need an input of their own.{model}{signals}keras.Model([x, y], {joined})"
    if any(len(shape) == 1 and shape[0] and shape[0] % letters == 0 for shape in shapes.values()):
        return f" One-hot letters in one row:{model[:1]}w{model[2:]}keras.Model(x, model(keras.layers.Flatten()(x)))"
    return ""


def require_sequence(name: str, shape: Shape, alphabet: Alphabet, listing: str) -> None:
    """Raise :class:`ModelError` unless an input of this shape can hold the sequence."""
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == alphabet.size)):
        raise ModelError(
            f"Input {name!r} has shape {shape}, not (length, {alphabet.size}) or, of integers, (length,). {listing}."
        )


def _tied(
    names: list[str], shapes: Mapping[str, Shape], tied: Sequence[Tied], chosen: str | int | None, alphabet: Alphabet
) -> tuple[int, dict[int, bool]]:
    """The first input, and for each of the tied ones whether it is the reverse complement."""
    listing = _listing(shapes)
    unknown = [tie.name for tie in tied if tie.name not in names]
    if unknown:
        raise ModelError(f"--tie: the model has no input {unknown[0]!r}. Its inputs: {listing}.")
    for tie in tied:
        require_sequence(tie.name, shapes[tie.name], alphabet, listing)
    lengths = {shapes[tie.name][0] for tie in tied}
    if len(lengths) > 1:
        raise ModelError(f"--tie: inputs that hold the same sequence have the same length: {listing}.")
    views = {names.index(tie.name): tie.reverse for tie in tied}
    primary = names.index(tied[0].name) if chosen is None else names.index(chosen) if chosen in names else chosen
    if primary not in views:
        raise UsageError(f"--sequence-input {chosen} is not one of those that --tie names.")
    return int(primary), views


def _coder(
    graph: LayerGraph, index: int, alphabet: Alphabet, codes: Mapping[str, int] | None
) -> tuple[LetterIntegers, bool]:
    """The integer of each letter, and whether N has one."""
    port = graph.inputs[index]
    known, known_letters = integers_known(graph, port.tensor), _letters_known(graph, port.tensor)
    chosen = dict(codes or {letter: i for i, letter in enumerate(alphabet.letters)})
    missing = [letter for letter in alphabet.letters if letter not in chosen]
    if missing:
        raise UsageError(f"--codes: letter {missing[0]} of the alphabet {alphabet.letters} has no integer.")
    integers = tuple(chosen.pop(letter) for letter in alphabet.letters)
    unknown = chosen.pop(alphabet.unknown_letter, None if codes else alphabet.size)
    if chosen:
        raise UsageError(f"--codes: {next(iter(chosen))} is neither a letter of {alphabet.letters} nor N.")
    if known_letters is not None and max(integers) >= known_letters:
        what = "Embedding" if known == known_letters else "one_hot"
        raise ModelError(
            f"Input {port.name!r}: its {what} knows {known_letters} integers, and the letters have up to "
            f"{max(integers)}. {HOW_TO_CODE}"
        )
    if unknown is not None and known is not None and unknown >= known:
        if codes:
            raise UsageError(
                f"--codes: {alphabet.unknown_letter} is {unknown}, and the Embedding of input {port.name!r} knows "
                f"{known} integers, 0 to {known - 1}. Leave {alphabet.unknown_letter} out: regions with one are then "
                "not scored."
            )
        unknown = None
    if not codes and known is not None and known > MAX_ROWS * (alphabet.size + 1):
        logger.warning(
            "input %r: its Embedding knows %d integers, of which %s are taken to be 0 to %d. If they stand for k-mers, "
            "the scores mean nothing. If they stand for letters: %s",
            *(port.name, known, alphabet.letters, max(integers), HOW_TO_CODE),
        )
    coder = LetterIntegers(integers, integers[0] if unknown is None else unknown, graph.tensors[port.tensor].dtype)
    return coder, unknown is not None


def with_views(graph: LayerGraph, views: Views, dtype: str) -> LayerGraph:
    """The graph with one input of shape (L, letters) for the sequence, and nodes that make every view of it."""
    if views.are_plain:
        return graph
    tensors: list[Tensor] = []
    nodes: list[Node] = []

    def new_tensor(shape: Shape, kind: str) -> int:
        tensors.append(Tensor(shape, kind))
        return len(graph.tensors) + len(tensors) - 1

    primary = graph.inputs[views.primary.index]
    one_hot = (graph.tensors[primary.tensor].shape[0], views.alphabet.size)
    sequence = new_tensor(one_hot, dtype)
    same: dict[int, int] = {}
    for view in views.views:
        target, at = graph.inputs[view.index].tensor, sequence
        steps = views.steps(view)
        if not steps:
            same[target] = sequence
        for number, step in enumerate(steps, start=1):
            out = target if number == len(steps) else new_tensor(one_hot, dtype)
            nodes.append(Node(0, f"{graph.inputs[view.index].name}:{step.name}", step, (at,), (out,), _call(step)))
            at = out
    kept = [
        Port(primary.name, sequence) if i == views.primary.index else port
        for i, port in enumerate(graph.inputs)
        if i in views.kept
    ]
    rest = [replace(node, inputs=tuple(same.get(t, t) for t in node.inputs)) for node in graph.nodes]
    outputs = [replace(port, tensor=same.get(port.tensor, port.tensor)) for port in graph.outputs]
    return replace(graph, inputs=tuple(kept)).extended([*nodes, *rest], tensors, outputs)


def _call(step: Any) -> Any:
    return lambda arrays, operation=step: [operation(arrays[0])]
