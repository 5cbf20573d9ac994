"""The commands in the example for Nextflow are commands of fastism, with options that it has."""

import click
import pytest

from tests.clusters.nextflow import check, scripts


def test_the_example_calls_fastism_with_options_that_it_has():
    found = scripts()
    assert set(found) == {"FASTISM_RUN", "FASTISM_MERGE"}
    for script in found.values():
        check(script)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--summary", "--sumary"),
        ("--fasta ${fasta}", "--genome ${fasta}"),
        ("fastism run", "fastism runs"),
        ("fastism run", "python run"),
        ("--model ${model}", ""),
    ],
)
def test_a_wrong_command_would_be_seen(old, new):
    script = scripts()["FASTISM_RUN"]
    assert old in script
    with pytest.raises(click.UsageError):
        check(script.replace(old, new))
