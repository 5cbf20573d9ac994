"""``python -m tests.slow.attack --seconds 300 --seed 0``: damage files of every kind while there is time, and count.

Each damaged file is read as the commands read it, and by an independent reader. Prints for each kind how many tries
there were, and how many were read right, refused in one line, read wrong, or ended in a raw error. Exits with 1 if a
try was wrong or raw; each such try is printed with the command that repeats it. Draws depend on seed, kind and number
alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastism_cli.cli.messages import aligned
from tests.slow.attack.child import Child, Tries, all_kinds, quiet
from tests.slow.attack.outcome import RAW, WORDS, WRONG, Kind, Outcome

SHOWN = 40  # faults of each kind that are printed


class Lane(threading.Thread):
    """The kinds that share a process: each gets its share of the time."""

    def __init__(self, kinds: Mapping[str, Kind], seed: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in kinds}
        self.failure = ""
        self._kinds, self._seed = kinds, seed
        self._stop_at = time.monotonic() + seconds
        self._child = Child(kinds)

    def run(self) -> None:
        try:
            self._child.start()
            self._go_on()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._child.stop()

    def _go_on(self) -> None:
        used = dict.fromkeys(self._kinds, 0.0)
        while time.monotonic() < self._stop_at:
            name = min(used, key=lambda name: used[name] / self._kinds[name].share)
            number, began = self.counts[name].total(), time.monotonic()
            outcome = self._child.outcome(name, self._seed, number)
            used[name] += time.monotonic() - began
            self.counts[name][outcome.word] += 1
            if outcome.word in (WRONG, RAW) and sum(self.counts[name][word] for word in (WRONG, RAW)) <= SHOWN:
                print(f"{outcome.word}: {repeat(self._seed, name, number)}\n    {outcome.detail[:1000]}", flush=True)


def repeat(seed: int, name: str, number: int) -> str:
    return f"python -m tests.slow.attack --seed {seed} --only {name} --number {number}"


def attack(kinds: Mapping[str, Kind], seed: int, seconds: float) -> int:
    """Tries of all kinds; the exit status."""
    chosen = [{n: k for n, k in kinds.items() if k.needs_keras == needs_keras} for needs_keras in (False, True)]
    lanes = [Lane(some, seed, seconds) for some in chosen if some]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    counts = {name: counter for lane in lanes for name, counter in lane.counts.items()}
    print("\n".join(table(counts)))
    failures = [lane.failure for lane in lanes if lane.failure]
    idle = [name for name, counter in counts.items() if not counter]
    if failures or idle:
        print("\n".join([*failures, *(f"{name}: not one try" for name in idle)]), file=sys.stderr)
    total = sum(counts.values(), Counter[str]())
    print(f"{total.total():,} tries, {total[WRONG]} wrong, {total[RAW]} raw (seed {seed}, {seconds:.0f} s)")
    return 1 if total[WRONG] or total[RAW] or failures or idle else 0


def table(counts: Mapping[str, Counter[str]]) -> list[str]:
    total = sum(counts.values(), Counter[str]())
    rows = [("kind", "tried", *WORDS)]
    for name, counter in (*counts.items(), ("all", total)):
        rows.append((name, *(f"{n:,}" for n in (counter.total(), *(counter[word] for word in WORDS)))))
    return aligned(rows, right=range(1, len(rows[0])))


def once(name: str, seed: int, number: int) -> Outcome:
    """One try in this process; its files are kept."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    tries = Tries(all_kinds(), folder)
    with quiet():
        outcome = tries.outcome(name, seed, number)
    print(f"{outcome.word}: {outcome.detail}\nits files are in {tries.folder_of(name)}")
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of kinds, joined by commas", default="")
    parser.add_argument("--number", type=int, help="one try of --only, in this process")
    given = parser.parse_args(arguments)
    kinds = all_kinds()
    names = given.only.split(",") if given.only else list(kinds)
    if unknown := [name for name in names if name not in kinds]:
        parser.error(f"--only {','.join(unknown)}: the kinds are {', '.join(kinds)}")
    if given.number is not None:
        if len(names) != 1:
            parser.error("--number is one try of one kind: name the kind with --only")
        return int(once(names[0], given.seed, given.number).word in (WRONG, RAW))
    print(f"damaged files: `make test-attack ATTACK_SEED={given.seed}` draws the same", flush=True)
    return attack({name: kinds[name] for name in names}, given.seed, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
