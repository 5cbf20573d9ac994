"""Parse ``--targets`` of the commands that read a result."""

from __future__ import annotations

from collections.abc import Sequence

from fastism_cli.errors import UsageError
from fastism_cli.options.per_head import parse_range, split_named
from fastism_cli.results.layout import Track
from fastism_cli.results.scores import Scores


def choose_tracks(scores: Scores, values: Sequence[str], *, option: str = "--targets") -> tuple[Track, ...]:
    """``--targets [HEAD=]LIST``: names as ``fastism info`` shows them, or numbers from 0, or ranges of either.

    A name that looks like a number is a name: unit 7 of a file that holds the units 5 and 7 is called ``7``.

    Parameters
    ----------
    option : str
        Its name in messages.

    Raises
    ------
    UsageError
        If there is no such head or target.
    """
    chosen = [track for head, text in split_named(values) for track in _listed(scores, head, text, option)]
    return tuple(dict.fromkeys(chosen)) or scores.tracks


def _listed(scores: Scores, head: str | None, text: str, option: str) -> list[Track]:
    heads = [layout.name for layout in scores.file.heads]
    if head is None and text in heads:  # --targets HEAD
        head, text = text, "all"
    if head is None and len(heads) > 1:
        if not (text[:1].isdigit() or text in {track.name for track in scores.tracks}):
            raise UsageError(f"{option}: {scores.path} has no head or target {text!r}. Its heads: {', '.join(heads)}.")
        raise UsageError(f"{option} {text}: {scores.path} has several heads. Write HEAD={text}: {', '.join(heads)}.")
    if head is not None and head not in heads:
        raise UsageError(f"{option}: {scores.path} has no head {head!r}. Its heads: {', '.join(heads)}.")
    tracks = scores.tracks_of(head or heads[0])
    if text == "all":
        return list(tracks)
    by_name = {track.name: track for track in tracks}
    if text in by_name:
        return [by_name[text]]
    return [track for item in text.split(",") for track in _item(item.strip(), by_name, f"{option}: {scores.path}")]


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
        raise UsageError(f"{where} has no target {item!r}. Those of this head: {shown}.")
    return tracks
