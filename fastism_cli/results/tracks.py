"""Targets of a result file, one after the other whatever head they are of."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from fastism_cli.results.layout import HeadLayout


class Track(NamedTuple):
    """One target of one head: what a picture, a bigWig or a column of a table shows.

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


def head_tracks(head: HeadLayout) -> list[Track]:
    """The targets of a head, labelled."""
    names = _names(head)
    if len(names) == 1:
        return [Track(head.name, 0, names[0], head.name)]
    return [Track(head.name, unit, name, f"{head.name}/{name}") for unit, name in enumerate(names)]


def _names(head: HeadLayout) -> list[str]:
    """A name for each value of a head; numbered where the user's repeat."""
    positions = range(prod(head.shape[:-1]))
    names = [f"{name}@{at}" if len(head.shape) > 1 else name for at in positions for name in head.target_names]
    if len(set(names)) < len(names):
        return [f"{name}#{unit}" for unit, name in enumerate(names)]
    return names
