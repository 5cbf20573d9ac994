"""The loop over batches: what is started before what is read, and memory that runs out at any moment."""

from dataclasses import replace

import numpy as np
import pytest

from fastism_cli import FastISM
from fastism_cli.engine import batching
from fastism_cli.engine.batching import FEWEST_SUBSTITUTIONS, MIN_SUBSTITUTIONS, MIN_TOGETHER, Batching
from fastism_cli.engine.fast import FastEngine
from fastism_cli.errors import ResourceError
from fastism_cli.model import backend, device_choices
from tests.models.zoo import MODELS


@pytest.fixture
def scorer():
    """Two sequences in each call."""
    scorer = FastISM(MODELS["conv_pools_dense-one"](), engine="fast")
    scorer.batching.batch_size = 2 * 3 * scorer.input_length
    return scorer


def codes_of(scorer, n, seed=0):
    codes = np.random.default_rng(seed).integers(0, 4, (n, scorer.input_length)).astype("uint8")
    codes[:1, 3] = 4
    return codes


def everything(scorer):
    return range(scorer.input_length)


def test_a_stream_gives_what_single_calls_give(scorer):
    batches = [codes_of(scorer, n, seed=n) for n in (4, 2, 0, 5, 1)]
    found = list(scorer.score_stream([(codes, {}) for codes in batches], window=range(2, 30)))
    assert len(found) == len(batches)
    for codes, result in zip(batches, found, strict=True):
        alone = scorer.score_codes(codes, window=range(2, 30))
        for name, delta in result.delta.items():
            np.testing.assert_allclose(delta, alone.delta[name], atol=1e-6)
            np.testing.assert_allclose(result.reference[name], alone.reference[name], atol=1e-6)


def test_the_next_batch_is_started_before_the_last_is_read(scorer, monkeypatch):
    log = []
    start, read = FastEngine.deltas, backend.to_numpy
    monkeypatch.setattr(FastEngine, "deltas", lambda *args: log.append("start") or start(*args))
    monkeypatch.setattr(batching.backend, "to_numpy", lambda x: log.append("read") or read(x))
    n_batches = 4
    list(scorer.score_stream([(codes_of(scorer, 2), {}) for _ in range(n_batches)], window=everything(scorer)))
    assert log.count("start") == n_batches
    started = [i for i, what in enumerate(log) if what == "start"]
    # the prediction of the first batch may be read before, its deltas only when two more calls have been started
    assert log[: started[2]].count("read") < 2


def test_no_more_than_two_batches_are_taken_ahead(scorer):
    taken = []

    def batches():
        for i in range(6):
            taken.append(i)
            yield codes_of(scorer, 2), {}

    for done, _ in enumerate(scorer.score_stream(batches(), window=everything(scorer))):
        assert len(taken) <= done + 1 + batching.AHEAD


class OutOfMemory:
    """An array that the device could not compute, which shows when it is read."""

    def __init__(self, shape):
        self.shape = shape

    def __array__(self, dtype=None, copy=None):
        raise MemoryError("RESOURCE_EXHAUSTED: Out of memory")


@pytest.mark.one_in(36)
@pytest.mark.parametrize("fails", ["start", "read", "reference"])
def test_memory_that_runs_out_at_any_moment_halves_the_batch(scorer, monkeypatch, fails):
    batches = [codes_of(scorer, n, seed=n) for n in (4, 3, 2)]
    whole = [scorer.score_codes(codes).delta for codes in batches]
    small = 3 * scorer.input_length
    start, refer, failed = FastEngine.deltas, FastEngine.reference, []

    def is_too_large(engine):
        failed.append(np.prod(engine.batch) > small)
        return failed[-1]

    def deltas(engine, *args):
        if fails == "reference" or not is_too_large(engine):
            return start(engine, *args)
        if fails == "start":
            raise MemoryError
        return [OutOfMemory(x.shape) for x in start(engine, *args)]

    def reference(engine, *args):
        if fails == "reference" and is_too_large(engine):
            raise MemoryError
        return refer(engine, *args)

    read = backend.to_numpy
    monkeypatch.setattr(
        batching.backend, "to_numpy", lambda x: np.asarray(x) if isinstance(x, OutOfMemory) else read(x)
    )
    monkeypatch.setattr(FastEngine, "deltas", deltas)
    monkeypatch.setattr(FastEngine, "reference", reference)
    found = list(scorer.score_stream([(codes, {}) for codes in batches], window=everything(scorer)))
    assert any(failed) and not all(failed)
    for result, expected in zip(found, whole, strict=True):
        for name, delta in result.delta.items():
            np.testing.assert_allclose(delta, expected[name], atol=1e-6)


def test_a_model_that_never_fits_ends(scorer, monkeypatch):
    def reference(engine, *args):
        raise MemoryError

    monkeypatch.setattr(FastEngine, "reference", reference)
    with pytest.raises(ResourceError, match="does not fit the device"):
        scorer.score_codes(codes_of(scorer, 2))


def test_sequences_are_dealt_out_evenly_so_that_one_shape_is_compiled(scorer, monkeypatch):
    made = []
    make = Batching._made
    monkeypatch.setattr(Batching, "_made", lambda self, *args: made.append(args[-1]) or make(self, *args))
    scorer.batching.batch_size = 8 * 3 * scorer.input_length
    scorer.score_codes(codes_of(scorer, 19))
    assert made == [7]  # three batches of seven, not two of eight and one of three


def test_sequences_with_few_substitutions_are_passed_through_together(monkeypatch):
    """Their own passes take much of the time; not more of them than the memory for a call, nor than were asked for."""
    scorer, few, many = FastISM(MODELS["conv_pools_dense-one"](), engine="fast"), range(4, 7), range(4, 30)
    small = replace(device_choices.CHOICES["cpu"], working_set=1.0)
    monkeypatch.setitem(device_choices.CHOICES, "cpu", small)
    assert scorer.batching.substitutions == MIN_SUBSTITUTIONS
    monkeypatch.setattr(batching, "FEW", len(few) * 3 / scorer.prepared.plan.limit)
    assert (scorer.sequences_per_call(few), scorer.sequences_per_call(many)) == (MIN_TOGETHER, 1)
    bytes_of_five = 5 * len(few) * 3 * 4 * scorer.prepared.plan.working_set
    monkeypatch.setitem(device_choices.CHOICES, "cpu", replace(small, max_working_set=bytes_of_five))
    assert scorer.sequences_per_call(few) == 5
    scorer.batching.batch_size = MIN_SUBSTITUTIONS
    assert scorer.sequences_per_call(few) == MIN_SUBSTITUTIONS // (len(few) * 3)


def test_a_call_of_large_tensors_has_fewer_substitutions(monkeypatch):
    scorer = FastISM(MODELS["conv_pools_dense-one"](), engine="fast")
    small = replace(device_choices.CHOICES["cpu"], working_set=1.0)
    monkeypatch.setitem(device_choices.CHOICES, "cpu", small)
    size = 4 * scorer.prepared.plan.working_set
    for at_once, expected in ((1, FEWEST_SUBSTITUTIONS), (15, 15), (100, MIN_SUBSTITUTIONS)):
        monkeypatch.setattr(batching, "MIN_BYTES", at_once * size)
        assert scorer.batching.substitutions == expected
