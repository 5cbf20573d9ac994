"""The kernels of an optimised HLO text: how often each runs, the bytes that it moves, the products that it computes.

XLA writes the compiled program as computations of instructions. An instruction of the entry computation, or of one that
it calls, is a kernel, unless it costs nothing (a tuple, a bitcast). A fusion's own computation says what it reads: a
slice of an operand, or all of it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

Shape = tuple[int, ...]

BYTES = {"pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4}
BYTES |= {"f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8}
ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](?:\{([\d,]*))?")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")

# These move nothing: names for what is there.
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all opt-barrier partition-id replica-id async-done "
    "async-update copy-done".split()
)
CALLS = frozenset({"call", "while", "conditional", "async-start"})
# What may stand in a fusion that only lays numbers out anew.
MOVES = FREE | {"transpose", "copy", "reshape", "slice", "concatenate", "broadcast", "iota"}
SLICES = frozenset({"slice", "dynamic-slice", "gather"})
ARITHMETIC = frozenset(
    "add subtract multiply divide maximum minimum power remainder negate abs sign floor ceil exponential "
    "exponential-minus-one log log-plus-one logistic tanh sqrt rsqrt cbrt erf select compare clamp and or xor not "
    "convert reduce".split()
)


@dataclass(frozen=True)
class Instruction:
    """One line of HLO: ``type`` and ``rest`` (attributes) as they are written."""

    name: str
    operation: str
    type: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Product:
    """A matrix product (batch, m, k) times (batch, k, n)."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def multiply_adds(self) -> int:
        return self.batch * self.m * self.n * self.k


@dataclass(frozen=True)
class Kernel:
    """One kernel of the program.

    Attributes
    ----------
    kind : str
        "product", "convolution", "transpose", "copy", "gather", or "elementwise".
    times : int
        How often it runs.
    read, written : int
        Bytes, each time.
    operations : int
        Elementwise operations, each time.
    products : tuple of Product
    scope : str
        The name that the code gave the work: the stage.
    """

    kind: str
    read: int
    written: int
    operations: int = 0
    products: tuple[Product, ...] = ()
    times: int = 1
    scope: str = ""
    name: str = field(default="", compare=False)

    @property
    def bytes(self) -> int:
        return self.read + self.written

    @property
    def multiply_adds(self) -> int:
        return sum(product.multiply_adds for product in self.products)


def kernels(text: str) -> list[Kernel]:
    """All kernels of a program, from its optimised HLO text."""
    computations, entry = parse(text)
    return list(_kernels(computations, entry, 1))


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """The computations by name, and the name of the entry.

    Raises
    ------
    ValueError
        If there is no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, inside = "", None
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            inside = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif inside is not None and (found := INSTRUCTION.match(line)):
            instruction = _instruction(found[2], found[3], is_root=bool(found[1]))
            if instruction is not None:
                inside[instruction.name] = instruction
    if not entry:
        raise ValueError("the text has no ENTRY computation: it is not the HLO of a program")
    return computations, entry


def _instruction(name: str, text: str, *, is_root: bool) -> Instruction | None:
    """``text`` is TYPE OPERATION(OPERANDS), ATTRIBUTES; the type of several results stands in parentheses."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.find(" ")
    operation = re.match(r" ?([\w\-]+)\(", text[end:])
    if operation is None:
        return None
    opening = end + operation.end() - 1
    closing = _closing(text, opening)
    operands = tuple(re.findall(r"%([\w.\-]+)", text[opening:closing]))
    return Instruction(name, operation[1], text[:end], operands, text[closing + 1 :], is_root)


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens there is closed."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return len(text) - 1


# --- types ------------------------------------------------------------------------------------------------------------


def arrays(text: str) -> list[tuple[str, Shape, str]]:
    """Element type, shape and layout (minor to major) of every array in a type."""
    return [
        (kind, tuple(int(n) for n in shape.split(",") if n), layout)
        for kind, shape, layout in ARRAY.findall(text)
        if kind in BYTES
    ]


def size(text: str) -> int:
    """Bytes of all arrays in a type."""
    return sum(BYTES[kind] * prod(shape) for kind, shape, _ in arrays(text))


def elements(text: str) -> int:
    """Elements of the first array of a type."""
    found = arrays(text)
    return prod(found[0][1]) if found else 0


# --- kernels ----------------------------------------------------------------------------------------------------------


def _kernels(computations: dict[str, Computation], name: str, times: int) -> Iterator[Kernel]:
    inside = computations[name]
    for instruction in inside.values():
        if instruction.operation in FREE:
            continue
        if instruction.operation in CALLS:
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
            often = times * (int(trips[1]) if trips and instruction.operation == "while" else 1)
            for called in _called(instruction):
                yield from _kernels(computations, called, often)
            continue
        kernel = _kernel(instruction, inside, computations)
        yield replace(kernel, times=times, scope=_scope(instruction), name=instruction.name)


def _called(instruction: Instruction) -> list[str]:
    """The computations that run, not those that say how to combine two numbers."""
    listed = re.search(r"(?:branch_computations|called_computations)=\{([^}]*)\}", instruction.rest)
    if listed:
        return re.findall(r"%([\w.\-]+)", listed[1])
    return re.findall(r"(?:to_apply|body|calls)=%?([\w.\-]+)", instruction.rest)


def _scope(instruction: Instruction) -> str:
    found = re.search(r'op_name="([^"]*)"', instruction.rest)
    return found[1] if found else ""


def _kernel(instruction: Instruction, inside: Computation, computations: dict[str, Computation]) -> Kernel:
    if instruction.operation == "fusion":
        return _fusion(instruction, computations[_called(instruction)[0]])
    given = sum(size(inside[name].type) for name in instruction.operands if name in inside)
    results = arrays(instruction.type)
    written = sum(BYTES[kind] * prod(shape) for kind, shape, _ in results)
    target = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    if target and "cublas" in target[1]:
        # its second result is room to work in
        written = BYTES[results[0][0]] * prod(results[0][1])
        return Kernel("product", given, written, products=(_product(instruction, inside),))
    if target and "cudnn" in target[1]:
        written = BYTES[results[0][0]] * prod(results[0][1])
        return Kernel("convolution", given, written, products=(_convolution(instruction, inside),))
    if instruction.operation == "dot":
        return Kernel("product", given, written, products=(_product(instruction, inside),))
    if instruction.operation == "convolution":
        return Kernel("convolution", given, written, products=(_convolution(instruction, inside),))
    if instruction.operation in ("transpose", "copy"):
        return Kernel(_of_copy(instruction, inside), given, written)
    if instruction.operation in SLICES:
        return Kernel("gather" if instruction.operation == "gather" else "copy", written, written)
    return Kernel("elementwise", given, written, operations=elements(instruction.type))


def _of_copy(instruction: Instruction, inside: Computation) -> str:
    """ "transpose" if the order of the axes in memory changes."""
    if instruction.operation == "transpose":
        return "transpose"
    source = inside.get(instruction.operands[0]) if instruction.operands else None
    before = arrays(source.type)[0][2] if source is not None and arrays(source.type) else ""
    return "copy" if before == arrays(instruction.type)[0][2] else "transpose"


def _fusion(instruction: Instruction, body: Computation) -> Kernel:
    readers: dict[str, list[Instruction]] = defaultdict(list)
    for inner in body.values():
        for operand in inner.operands:
            readers[operand].append(inner)

    def read(name: str) -> int:
        """Bytes of an operand that are read: of slices only what they take."""
        total = 0
        for reader in readers[name]:
            if reader.operation in SLICES and reader.operands[0] == name:
                total += size(reader.type)
            elif reader.operation in ("bitcast", "reshape"):
                total += read(reader.name)
            elif not (reader.operation == "dynamic-update-slice" and reader.operands[0] == name):
                return size(body[name].type)
        return min(total, size(body[name].type))

    root = next(inner for inner in body.values() if inner.is_root)
    written = size(instruction.type)
    if root.operation == "dynamic-update-slice" and root.operands[1] in body:
        written = size(body[root.operands[1]].type)
    names = {inner.operation for inner in body.values()}
    products = tuple(_product(inner, body) for inner in body.values() if inner.operation == "dot")
    products += tuple(_convolution(inner, body) for inner in body.values() if inner.operation == "convolution")
    operations = sum(_operations(inner, body) for inner in body.values() if inner.operation in ARITHMETIC)
    if products:
        kind = "convolution" if "convolution" in names else "product"
    elif names <= MOVES:
        lays_out_anew = any(
            inner.operation in ("transpose", "copy") and _of_copy(inner, body) == "transpose" for inner in body.values()
        )
        kind = "transpose" if lays_out_anew else "copy"
    else:
        kind = "gather" if names <= MOVES | {"gather"} else "elementwise"
    given = sum(read(inner.name) for inner in body.values() if inner.operation == "parameter")
    return Kernel(kind, given, written, operations, products)


def _operations(inner: Instruction, body: Computation) -> int:
    """A reduction takes one for each element that it reads."""
    if inner.operation == "reduce" and inner.operands and inner.operands[0] in body:
        return elements(body[inner.operands[0]].type)
    return elements(inner.type)


def _product(instruction: Instruction, inside: Computation) -> Product:
    left, right = (arrays(inside[name].type)[0][1] for name in instruction.operands[:2])
    if instruction.operation == "dot":
        names = ("lhs_batch_dims", "lhs_contracting_dims", "rhs_batch_dims", "rhs_contracting_dims")
        axes = [_numbers(instruction.rest, name) for name in names]
    else:
        written = re.search(r'"dot_dimension_numbers":(\{[^}]*\})', instruction.rest)
        given = json.loads(written[1]) if written else {}
        sides = ("lhs", "rhs")
        kinds = ("batch", "contracting")
        axes = [[int(x) for x in given.get(f"{side}_{kind}_dimensions", [])] for side in sides for kind in kinds]
    left_batch, left_sum, right_batch, right_sum = axes
    return Product(
        batch=prod(left[i] for i in left_batch),
        m=prod(n for i, n in enumerate(left) if i not in (*left_batch, *left_sum)),
        n=prod(n for i, n in enumerate(right) if i not in (*right_batch, *right_sum)),
        k=prod(left[i] for i in left_sum),
    )


def _numbers(text: str, name: str) -> list[int]:
    found = re.search(name + r"=\{([\d,]*)\}", text)
    return [int(x) for x in found[1].split(",") if x] if found else []


def _convolution(instruction: Instruction, inside: Computation) -> Product:
    """A convolution as the product that it amounts to: positions by filters by what each of them adds up."""
    output, kernel = arrays(instruction.type)[0][1], arrays(inside[instruction.operands[1]].type)[0][1]
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", instruction.rest)
    filters = kernel[labels[1].index("o")] if labels else output[-1]
    return Product(batch=1, m=prod(output) // filters, n=filters, k=prod(kernel) // filters)
