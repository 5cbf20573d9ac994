"""Compare answers with those of other programs: every documented use of fastISM 0.5.1, and tangermeme's ISM.

Both sides have the same weights and the same sequences; the other program runs in its own environment (``make peers``).
Equal means: no prediction differs by more than rounding, and the changes of the predictions are far larger. Rounding is
32 units in the last place of the largest prediction, in float32; in the large models for tangermeme, twice what this
engine may have: three times the error of plain Keras in float32.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from benchmarks.contestants import Peer
from benchmarks.fastism_uses import USES, Use
from benchmarks.models import PAPER, REDUCE, random_one_hot
from fastism_cli import FastISM, MutagenesisResult

UNITS = 32  # in the last place of float32
TIMES = 3 + 3  # the error of plain Keras: ours and theirs
LEAST = 100  # times that is what the largest change must be
SHORT = 200  # positions of the models that tangermeme is given

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """How far two programs are apart.

    Attributes
    ----------
    predictions : int
        How many numbers were compared.
    difference, allowed : float
        The largest difference, and what rounding explains.
    change : float
        The largest difference of a prediction from that of the unchanged sequence.
    failed : str
        What the other program said, if it gave no answer.
    """

    predictions: int = 0
    difference: float = np.inf
    allowed: float = 0.0
    change: float = 0.0
    failed: str = ""

    @property
    def equal(self) -> bool:
        return not self.failed and self.difference <= self.allowed and self.change >= LEAST * self.allowed

    def __str__(self) -> str:
        if self.failed:
            return f"failed: {self.failed}"
        said = "equal" if self.equal else "NOT EQUAL"
        return (
            f"{self.predictions:6,} predictions, largest change {self.change:.1e}, difference {self.difference:.1e} "
            f"(rounding {self.allowed:.1e}): {said}"
        )


def compared(
    ours: list[np.ndarray], theirs: list[np.ndarray], references: list[np.ndarray], allowed: list[float] | None = None
) -> Comparison:
    """Predictions of all calls and outputs, each with that of the unchanged sequence beside it."""
    shapes = [x.shape for x in theirs], [x.shape for x in ours]
    if shapes[0] != shapes[1]:
        return Comparison(failed=f"its answers have shapes {shapes[0]}, ours {shapes[1]}")
    allowed = allowed or [UNITS * float(np.spacing(np.float32(np.abs(x).max()))) for x in ours]
    parts = [
        (float(np.abs(a - b).max()), limit, float(np.abs(a - c).max()))
        for a, b, c, limit in zip(ours, theirs, references, allowed, strict=True)
    ]
    worst = max(parts, key=lambda part: part[0] / part[1])
    return Comparison(sum(x.size for x in ours), worst[0], worst[1], max(part[2] for part in parts))


# --- the uses of fastISM ----------------------------------------------------------------------------------------------


def answers_of(use: Use, model: Any, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What this library predicts: for each call and output (n, ranges, *shape), and the same without a change.

    All calls are one here: they become the contents of the blocks.
    """
    blocks = {"width": 1} if use.ranges is None else {"ranges": use.ranges}
    width = 1 if use.ranges is None else use.ranges[0][1] - use.ranges[0][0]
    contents = [np.broadcast_to(np.float32(call), (width, len(use.alphabet))) for call in use.calls]
    scorer = FastISM(
        model,
        sequence_input=use.sequence,
        alphabet=use.alphabet,
        reduce="none" if any(len(output.shape) > 2 for output in model.outputs) else None,
        replace_with=use.calls[0] if len(use.calls) == 1 else np.stack(contents),
        engine="naive" if use.is_naive else "fast",
        **blocks,
    )
    result = scorer(inputs)
    return by_call(result, len(use.calls))


def by_call(result: MutagenesisResult, calls: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predictions and references of all calls; ``delta`` of a head is (n, *shape, blocks, contents)."""
    predictions, references = [], []
    for i in range(calls):
        for head, delta in result.delta.items():
            reference = result.reference[head][:, None]
            predictions.append(reference + np.moveaxis(delta[..., i], -1, 1))
            references.append(np.broadcast_to(reference, predictions[-1].shape))
    return predictions, references


def compare_use(name: str, ask: Ask, folder: Path) -> Comparison:
    """One use in both programs; ``ask`` gives a request to the other one."""
    use, paths = USES[name], {what: str(folder / f"{what}.npz") for what in ("weights", "inputs", "outputs")}
    model = use.build(keras)
    inputs = use.inputs([tuple(x.shape[1:]) for x in model.inputs])
    np.savez(paths["weights"], *model.get_weights())
    np.savez(paths["inputs"], *inputs)
    answer = ask({"use": name, **paths})
    if "failed" in answer:
        return Comparison(failed=answer["failed"])
    with np.load(paths["outputs"]) as found:
        theirs = [found[key] for key in found.files]
    ours, references = answers_of(use, model, inputs)
    return compared(ours, theirs, references)


# --- tangermeme -------------------------------------------------------------------------------------------------------


def compare_saturation(name: str, ask: Ask, folder: Path) -> Comparison:
    """Every substitution of two sequences by one of the benchmark's models, in both programs."""
    model, x = PAPER[name](SHORT), random_one_hot(2, SHORT)
    weights, outputs = str(folder / "weights.npz"), str(folder / "outputs.npz")
    np.savez(weights, *model.get_weights())
    answer = ask({"model": name, "length": SHORT, "batch": len(x), "weights": weights, "outputs": outputs})
    if "failed" in answer:
        return Comparison(failed=answer["failed"])
    with np.load(outputs) as found:
        theirs = found["predictions"]
    ours, same = by_target(model, x, engine="fast")
    exact, plain = (by_target(model, x, engine="naive", precision=precision)[0] for precision in ("float64", "float32"))
    allowed = [TIMES * float(np.abs(a - b).max()) for a, b in zip(exact, plain, strict=True)]
    return compared(ours, [theirs[..., i] for i in range(theirs.shape[-1])], same, allowed)


def by_target(model: Any, x: np.ndarray, **options: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each target of all heads, predictions (n, letters, L), and the same without a change."""
    result = FastISM(model, reduce=REDUCE.get(model.name), **options)(x)
    delta = np.concatenate(list(result.delta.values()), axis=1)
    references = np.concatenate(list(result.reference.values()), axis=1)[:, :, None, None]
    predictions = np.moveaxis((references + delta).swapaxes(2, 3), 1, 0)  # from (n, T, L, letters)
    same = np.broadcast_to(np.moveaxis(references, 1, 0), predictions.shape)
    return list(predictions), list(same)


# --- all of them ------------------------------------------------------------------------------------------------------


def comparisons(
    uses: tuple[str, ...], models: tuple[str, ...], peer: Callable[[str], Ask], folder: Path
) -> Iterator[tuple[str, str, Comparison]]:
    """Program, what was compared, and how it came out; ``peer`` starts a program."""
    for program, names, compare in (
        ("fastISM 0.5.1", uses, compare_use),
        ("tangermeme 1.6", models, compare_saturation),
    ):
        if names:
            ask = peer("uses" if compare is compare_use else "tangermeme-answers")
            for name in names:
                yield program, name, compare(name, ask, folder)


@click.command()
@click.argument("python", type=click.Path(exists=True))
@click.option("--use", "uses", multiple=True, type=click.Choice(list(USES)), help="Of fastISM. Default: all.")
@click.option("--model", "models", multiple=True, type=click.Choice(list(PAPER)), help="For tangermeme. Default: all.")
def main(python: str, uses: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Compare with the programs that PYTHON has; exit 1 if anything differs."""
    if not uses and not models:
        uses, models = tuple(USES), tuple(PAPER)
    report(uses, models, lambda name: Peer(name, python).ask)


def report(uses: tuple[str, ...], models: tuple[str, ...], peer: Callable[[str], Ask]) -> None:
    """A line for each comparison, and how many are equal."""
    counts: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for program, name, found in comparisons(uses, models, peer, Path(folder)):
            click.echo(f"{program:14} {name:40} {found}")
            counts.setdefault(program, []).append(found.equal)
    for program, equal in counts.items():
        click.echo(f"{program}: {sum(equal)} of {len(equal)} equal")
    if not all(all(equal) for equal in counts.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
