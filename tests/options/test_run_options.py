"""What a user may choose, checked for the library as for the command line."""

from dataclasses import fields

import pytest

from fastism_cli.errors import UsageError
from fastism_cli.options.run_options import RunOptions, default_output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": "left"}, "--center must be one of auto, midpoint, summit. Received: 'left'"),
        ({"edge": "wrap"}, "--edge must be one of pad, skip, error"),
        ({"window": 0}, "--window must be at least 1"),
        ({"max_n": 1.5}, "--max-n is a share from 0 to 1"),
        ({"n_policy": "?"}, "--n-policy must be one of"),
        ({"dtype": "float8"}, "--dtype must be one of"),
    ],
)
def test_options_are_checked_in_the_library_too(options, message):
    with pytest.raises(UsageError, match=message):
        RunOptions(**options)


def test_every_option_is_in_the_hash_or_known_not_to_matter():
    import json

    from fastism_cli.options import run_options

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
