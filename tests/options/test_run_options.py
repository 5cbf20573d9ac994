"""What a user may choose, checked for the library as for the command line."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.errors import UsageError
from fastism_cli.options import run_options
from fastism_cli.options.run_options import RunOptions, Window, default_output, parse_window
from fastism_cli.results.layout import MeanOf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": "left"}, "--center must be one of auto, midpoint, summit. Received: 'left'"),
        ({"edge": "wrap"}, "--edge must be one of pad, skip, error"),
        ({"window": 0}, "--window must be at least 1"),
        ({"window": "0"}, "--window must be a number of bases from 1 on, or FIRST:END"),
        ({"window": "5:5"}, "as in -50:150. Received: '5:5'"),
        ({"window": "-9:x"}, "Received: '-9:x'"),
        ({"window": "--9:1"}, "Received: '--9:1'"),
        ({"offset": -(10**5000)}, "--offset must be at most 4294967295. Received: a number of 16,610 bits"),
        ({"offset": 1.5}, "--offset must be a whole number. Received: 1.5"),
        ({"offset": 3, "tile": True}, "--tile covers whole intervals, --offset and --window FIRST:END"),
        ({"window": "-5:6", "tile": True}, "--window WIDTH goes with --tile"),
        ({"max_n": 1.5}, "--max-n is a share from 0 to 1"),
        ({"n_policy": "?"}, "--n-policy must be one of"),
        ({"dtype": "float8"}, "--dtype must be one of"),
        ({"tile": "no"}, "tile is True or False. Received: 'no'"),
    ],
)
def test_options_are_checked_in_the_library_too(options, message):
    with pytest.raises(UsageError) as found:
        RunOptions(**options)
    assert re.search(message, found.value.message)


def test_a_window_is_a_width_or_a_place():
    assert parse_window(None) is None
    assert parse_window(200) == parse_window("200") == Window(200)
    assert parse_window("-50:150") == Window(200, -50) and parse_window("+7:9") == Window(2, 7)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"rc": 1, "spread": np.True_, "stranded": 0}, {"rc": True, "spread": True, "stranded": False}),
        ({"window": "20"}, {"window": 20}),
        ({"window": np.int64(20), "max_n": np.float32(0.5)}, {"window": 20, "max_n": 0.5}),
        ({"rc": True, "rc_pairs": "0:1"}, {"rc_pairs": ["0:1"]}),
        ({"shifts": np.array([0, 1]), "targets": "1", "weights": Path("w.h5")}, {"targets": ["1"], "weights": "w.h5"}),
    ],
    ids=str,
)
def test_what_python_takes_for_an_option_is_written_as_readers_want_it(given, kept):
    """Else the result would be refused as damaged, after all of the work."""
    options = RunOptions(**given)
    config = json.loads(options.config())
    assert {name: config[name] for name in kept} == kept
    assert all(type(config[name]) is type(value) for name, value in kept.items())
    averages = options.averages
    shown = MeanOf((), averages.rc, tuple(options.rc_pairs), averages.shifts, averages.average, averages.spread)
    assert MeanOf.of_json(shown.to_json()) == shown


def test_every_option_is_in_the_hash_or_known_not_to_matter():
    assert set(json.loads(RunOptions().config())) | run_options.NOT_OF_THE_RESULT == {
        field.name for field in fields(RunOptions)
    }


@pytest.mark.parametrize(
    ("bed", "output"),
    [
        ("a/peaks.bed", "peaks.ism.h5"),
        ("peaks.narrowPeak", "peaks.ism.h5"),
        ("x.y.bed.gz", "x.y.ism.h5"),
        ("-", "stdin.ism.h5"),
        (None, "proteins.ism.h5"),
    ],
)
def test_default_output(bed, output):
    assert default_output(bed, "b/proteins.fa.gz") == output
