"""The targets of scores, and how a user names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from fastism_cli.errors import UsageError, brief
from fastism_cli.options.choices import parse_range, split_named

Array = npt.NDArray[Any]  # of scores; shapes and types are in the docstrings


class Track(NamedTuple):
    """One target of one head, as a picture, a bigWig or a column of a table shows it.

    Attributes
    ----------
    head : str
        As in the model.
    unit : int
        Which of the head's values, counted over all of its axes.
    name : str
        Of the target; with its position (``3@17``: target 3, position 17) in a head that kept its positions.
    label : str
        ``head`` where the head has one target, else ``head/name``. No two tracks of a file share one.
    """

    head: str
    unit: int
    name: str
    label: str


def head_tracks(head: str, shape: Sequence[int], target_names: Sequence[str] = ()) -> list[Track]:
    """The targets of a head, labelled.

    Parameters
    ----------
    shape : sequence of int
        Of one sequence's predictions: (T,), or (positions, T) of a head that kept its positions.
    target_names : sequence of str
        Of the T targets. Default: numbers from 0.
    """
    names = _names(shape, target_names or [str(number) for number in range(shape[-1])])
    if len(names) == 1:
        return [Track(head, 0, names[0], head)]
    return [Track(head, unit, name, f"{head}/{name}") for unit, name in enumerate(names)]


def _names(shape: Sequence[int], target_names: Sequence[str]) -> list[str]:
    """A name for each value of a head; numbered where the user's repeat."""
    positions = range(prod(shape[:-1]))
    names = [f"{name}@{at}" if len(shape) > 1 else name for at in positions for name in target_names]
    if len(set(names)) < len(names):
        return [f"{name}#{unit}" for unit, name in enumerate(names)]
    return names


class HasTracks(Protocol):
    """Scores by target.

    Attributes
    ----------
    source : str
        Where they come from, in messages.
    tracks : tuple of Track
        Every target of every head.
    """

    @property
    def source(self) -> str: ...

    @property
    def tracks(self) -> tuple[Track, ...]: ...


def choose_tracks(scores: HasTracks, values: Sequence[str], *, option: str = "--targets") -> tuple[Track, ...]:
    """``--targets [HEAD=]LIST``: names as ``fastism info`` shows them, or numbers from 0, or ranges of either.

    A name that looks like a number is a name: unit 7 of a file that holds the units 5 and 7 is called ``7``. A label
    (``HEAD/NAME``) is one target too.

    Parameters
    ----------
    option : str
        Its name in messages.

    Raises
    ------
    UsageError
        If there is no such head or target.
    """
    labelled = {track.label: track for track in scores.tracks}
    chosen = [track for value in values for track in _chosen(scores, labelled, value, option)]
    return tuple(dict.fromkeys(chosen)) or scores.tracks


def _chosen(scores: HasTracks, labelled: Mapping[str, Track], value: str, option: str) -> list[Track]:
    if value in labelled:
        return [labelled[value]]
    return [track for head, text in split_named([value]) for track in _listed(scores, head, text, option)]


def _listed(scores: HasTracks, head: str | None, text: str, option: str) -> list[Track]:
    heads = list(dict.fromkeys(track.head for track in scores.tracks))
    if head is None and text in heads:  # --targets HEAD
        head, text = text, "all"
    if head is None and len(heads) > 1:
        if not (text[:1].isdigit() or text in {track.name for track in scores.tracks}):
            raise UsageError(
                f"{option}: {scores.source} has no head or target {brief(text)!r}. Its heads: {', '.join(heads)}."
            )
        raise UsageError(
            f"{option} {brief(text)}: {scores.source} has several heads. Write HEAD={brief(text)}: {', '.join(heads)}."
        )
    if head is not None and head not in heads:
        raise UsageError(f"{option}: {scores.source} has no head {brief(head)!r}. Its heads: {', '.join(heads)}.")
    tracks = [track for track in scores.tracks if track.head == (head or heads[0])]
    if text == "all":
        return tracks
    by_name = {track.name: track for track in tracks}
    if text in by_name:
        return [by_name[text]]
    return [track for item in text.split(",") for track in _item(item.strip(), by_name, f"{option}: {scores.source}")]


def _item(item: str, by_name: dict[str, Track], where: str) -> list[Track]:
    """A name, a number, or a range of numbers, both ends included."""
    if item in by_name:
        return [by_name[item]]
    numbers = parse_range(item) or range(0)
    if "-" in item and numbers and all(str(number) in by_name for number in numbers):
        tracks = [by_name[str(number)] for number in numbers]
    else:
        tracks = [track for track in by_name.values() if track.unit in numbers]
    if not numbers or len(tracks) < len(numbers):
        shown = ", ".join([*by_name][:10]) + (", ..." if len(by_name) > 10 else "")
        raise UsageError(f"{where} has no target {brief(item)!r}. Those of this head: {shown}.")
    return tracks
