"""Killed at any step of writing, then resumed: the file is that of an undisturbed run. Damage is refused."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.errors import OutputError, ResourceError, UsageError
from fastism_cli.results import schema
from fastism_cli.results.crash_safe_file import PAGE, open_disk
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.outputs import check_output
from fastism_cli.results.writer import ResultWriter
from tests.results.test_ism_file import assert_holds, block_of, files_of_at_most, rows_of

pytestmark = pytest.mark.one_in(2)

LAYOUT = Layout(n_rows=40, length=30, heads=(HeadLayout("y", (2,)),))
STEP = 4
ATTRIBUTES = {"config": '{"window": 10}', "model_sha256": "a" * 64, "row_start": 0}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "ism.h5"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of 6 rows: checkpoints fall into the middle of them, so that old bytes change."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", 6 * 2 * 30 * 4 * 4)
    monkeypatch.setattr(schema, "COLUMN_CHUNK_ROWS", 7)


def go_on(output, block: dict, *, stop: int = LAYOUT.n_rows, layout: Layout = LAYOUT, **options) -> int:
    """Write from where the file stands to row ``stop``, a checkpoint after each block; returns where it stood."""
    options = {"attributes": ATTRIBUTES, "genome_sizes": {"chr1": 9}, "resume": True, "checkpoint_seconds": 0} | options
    with ResultWriter(output, layout, **options) as writer:
        for row in range(writer.rows_done, stop, STEP):
            writer.write_rows(row, **rows_of(block, slice(row, row + STEP)))
            writer.checkpoint_if_due()
        if stop < layout.n_rows:
            raise KeyboardInterrupt
    return writer.rows_done


class Death:
    """All changes of files are lost from the ``last``-th on, of which a write is done by half."""

    NAMES = ("pwrite", "ftruncate", "replace", "unlink")

    def __init__(self, patch: pytest.MonkeyPatch, last: int) -> None:
        self.calls, self.last = 0, last
        for name in self.NAMES:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name, function):
        def call(*arguments):
            self.calls += 1
            if self.calls < self.last:
                return function(*arguments)
            if self.calls == self.last and name == "pwrite":
                descriptor, data, start = arguments
                function(descriptor, data[: len(data) // 2], start)
            return len(arguments[1]) if name == "pwrite" else None

        return call


@pytest.mark.one_in(48)
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.exhaustive), 4])
def test_killed_at_every_change_of_a_file(output, rng, step):
    """Or at each fourth, in the quick tests."""
    layout = Layout(n_rows=20, length=30, heads=LAYOUT.heads)
    block = block_of(layout, rng)
    with pytest.MonkeyPatch.context() as patch:
        death = Death(patch, 10**9)
        go_on(output, block, stop=20, layout=layout)
    assert death.calls > 100
    stood = set()
    for last in range(1, death.calls + 1, step):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, last)
            go_on(output, block, stop=20, layout=layout)
        if not output.exists():
            stood.add(go_on(output, block, stop=20, layout=layout))
        assert_holds(output, layout, block)
    assert stood == set(range(0, 21, STEP)) or step > 1 < len(stood)


def test_resumed_after_interrupts(output, rng):
    block = block_of(LAYOUT, rng)
    for stop in (4, 12, 16, 32):
        with pytest.raises(KeyboardInterrupt):
            go_on(output, block, stop=stop, checkpoint_seconds=1e9)  # the interrupt itself makes the rows last
        assert sorted(os.listdir(output.parent)) == ["ism.h5.partial", "ism.h5.partial.journal"]
    assert go_on(output, block) == 32
    assert_holds(output, LAYOUT, block)
    assert os.listdir(output.parent) == ["ism.h5"]


@pytest.mark.parametrize("ending", [".partial", ".partial.journal"])
def test_a_pipe_in_the_place_of_unfinished_rows_is_not_waited_for(output, ending):
    os.mkfifo(f"{output}{ending}")
    for options in ({"overwrite": True}, {"overwrite": False, "resume": True}):
        with pytest.raises(OutputError, match=re.escape(f"{ending} is a link, a folder or a device, and unfinished")):
            check_output(output, **options)


def test_rows_are_not_thrown_away_unasked(output, rng):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=8)
    message = "ism.h5.partial holds 8 finished rows of an interrupted run. Continue it with resume=True, or start anew"
    with pytest.raises(OutputError, match=re.escape(message)):
        go_on(output, block, resume=False)
    assert go_on(output, block, resume=False, overwrite=True) == 0
    assert_holds(output, LAYOUT, block)


def test_another_configuration_is_told_and_touches_nothing(output, rng):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=8)
    before = Path(f"{output}.partial").read_bytes()
    other = {"config": '{"window": 20}', "model_sha256": "b" * 64, "row_start": 10}
    with pytest.raises(OutputError) as caught:
        go_on(output, block, attributes=other)
    assert str(caught.value) == (
        f"{output}.partial was made by another configuration: the model file (SHA-256 aaaaaaaa... and bbbbbbbb...); "
        "window: 10 and 20; row_start: 0 and 10. Give the same, "
        "or start anew with overwrite=True instead of resume=True."
    )
    assert Path(f"{output}.partial").read_bytes() == before
    assert go_on(output, block) == 8


@pytest.mark.parametrize("place", [0, 5_000, 20_000])
def test_a_changed_byte_is_refused(output, rng, place):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=24)
    for name in (f"{output}.partial", f"{output}.partial.journal"):
        good = Path(name).read_bytes()
        bad = bytearray(good)
        bad[place % len(bad)] ^= 1
        Path(name).write_bytes(bad)
        held_again = name.endswith(".partial") and _is_restored(output, place % len(good))
        if held_again:
            assert go_on(output, block, stop=LAYOUT.n_rows) == 24
            return
        with pytest.raises(OutputError, match=r"ism\.h5\.partial is damaged: .* Start anew with overwrite=True"):
            go_on(output, block)
        Path(name).write_bytes(good)
    assert go_on(output, block) == 24
    assert_holds(output, LAYOUT, block)


def _is_restored(output, place: int) -> bool:
    """Whether the journal brings this byte back."""
    from fastism_cli.results.crash_safe_file import read_checkpoint

    return place // PAGE in read_checkpoint(f"{output}.partial.journal").pages


@pytest.mark.parametrize("size", [0, 3_000, 20_000])
def test_a_cut_file_is_refused(output, rng, size):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=24)
    os.truncate(f"{output}.partial", size)
    with pytest.raises(OutputError, match=r"ism\.h5\.partial is damaged: bytes after 0 are not as written"):
        go_on(output, block)
    check_output(output, overwrite=True)


@pytest.mark.parametrize("n_bytes", [40_000, 45_000, 50_000])
def test_a_full_disk_keeps_what_was_made_to_last(output, rng, n_bytes):
    block = block_of(LAYOUT, rng)
    with files_of_at_most(n_bytes), pytest.raises(ResourceError) as caught:
        go_on(output, block, layout=Layout(40, 30, LAYOUT.heads, compression="none"))
    kept = int(re.search(r"Its first (\d+) rows are kept; run again with resume=True", str(caught.value))[1])
    assert kept > 0 and sorted(os.listdir(output.parent)) == ["ism.h5.partial", "ism.h5.partial.journal"]
    assert go_on(output, block, layout=Layout(40, 30, LAYOUT.heads, compression="none")) == kept
    assert_holds(output, LAYOUT, block)


def test_the_folder_is_removed_while_it_is_written(output, rng):
    block = block_of(LAYOUT, rng)
    for seconds, error in ((0, ResourceError), (1e9, OutputError)):
        output.parent.mkdir(exist_ok=True)
        with (
            pytest.raises(error, match=r"cannot be (written|renamed to .*): (No such file|it was removed or replaced)"),
            ResultWriter(output, LAYOUT, attributes={}, genome_sizes={}, checkpoint_seconds=seconds) as writer,
        ):
            writer.write_rows(0, **rows_of(block, slice(0, 4)))
            shutil.rmtree(output.parent)
            writer.checkpoint_if_due()


def test_inputs_that_changed_are_not_made_to_last(output, rng):
    block, changed = block_of(LAYOUT, rng), []

    def guard() -> None:
        if changed:
            raise UsageError("the FASTA has changed")

    with (
        pytest.raises(UsageError, match="the FASTA has changed"),
        ResultWriter(output, LAYOUT, attributes=ATTRIBUTES, genome_sizes={"chr1": 9}, guard=guard) as writer,
    ):
        writer.write_rows(0, **rows_of(block, slice(0, 4)))
        writer.checkpoint()
        writer.write_rows(4, **rows_of(block, slice(8, 12)))
        changed.append(True)
        writer.checkpoint()
    assert go_on(output, block) == 4
    assert_holds(output, LAYOUT, block)


def test_what_is_left_of_a_finished_run_does_no_harm(output, rng):
    """Killed after the renaming, before the journal was removed."""
    block = block_of(LAYOUT, rng)
    Path(f"{output}.partial.journal").write_bytes(b"old")
    check_output(output, overwrite=False)
    go_on(output, block, resume=False)
    assert_holds(output, LAYOUT, block)
    assert os.listdir(output.parent) == ["ism.h5"]


def test_clipped_values_are_counted_over_interrupts(output, rng):
    block = block_of(LAYOUT, rng)
    for rows, n in ((4, 3), (40, 5)):
        try:
            with ResultWriter(output, LAYOUT, attributes={}, genome_sizes={}, resume=True) as writer:
                writer.write_rows(0, **rows_of(block, slice(0, 4)))
                writer.n_clipped += n
                if rows == 4:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    with read_result(output) as result:
        assert result.attrs["n_clipped"] == 8


# --- a part of what is needed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_without_its_journal_is_kept(output, rng, resume):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=2 * STEP)
    partial = Path(f"{output}.partial")
    before = partial.read_bytes()
    Path(f"{partial}.journal").rename(output.parent / "elsewhere")
    with pytest.raises(
        OutputError, match=r"\.partial cannot be continued without .*\.partial\.journal\. .* bring both"
    ):
        go_on(output, block, resume=resume)
    assert partial.read_bytes() == before
    assert go_on(output, block, resume=False, overwrite=True) == 0
    assert_holds(output, LAYOUT, block)


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_a_link_leads_to_is_kept(output, rng, overwrite):
    other = output.parent / "precious"
    other.write_text("precious")
    Path(f"{output}.partial").symlink_to(other)
    with pytest.raises(OutputError, match=r"ism\.h5\.partial is a link, .*\. Move it away, or choose another output"):
        go_on(output, block_of(LAYOUT, rng), resume=not overwrite, overwrite=overwrite)
    with pytest.raises(OutputError, match=r"ism\.h5\.partial cannot be written"):
        open_disk(f"{output}.partial")
    assert other.read_text() == "precious"


@pytest.mark.one_in(24)
def test_a_run_that_is_killed_before_its_first_checkpoint_begins_anew(output, rng):
    """At some changes of a file, and at each of the last ones, which give it its name."""
    layout = Layout(n_rows=8, length=30, heads=LAYOUT.heads)
    block = block_of(layout, rng)
    with pytest.MonkeyPatch.context() as patch:
        death = Death(patch, 10**9)
        go_on(output, block, stop=8, layout=layout, checkpoint_seconds=1e9)
    for last in [*range(1, death.calls - 9, 30), *range(death.calls - 9, death.calls + 1)]:
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, last)
            go_on(output, block, stop=8, layout=layout, checkpoint_seconds=1e9)
        if not output.exists():
            assert go_on(output, block, stop=8, layout=layout, resume=last % 2 == 0) == 0
        assert_holds(output, layout, block)


def test_a_journal_without_its_file_is_refused(output, rng):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=2 * STEP)
    os.unlink(f"{output}.partial")
    with pytest.raises(OutputError, match=r"ism\.h5\.partial is damaged: bytes after 0 .*, only its journal"):
        go_on(output, block, stop=LAYOUT.n_rows)


def test_the_journal_of_another_run_is_refused(output, rng, tmp_path):
    other = tmp_path / "other" / "ism.h5"
    other.parent.mkdir()
    for path in (output, other):
        with pytest.raises(KeyboardInterrupt):
            go_on(path, block_of(LAYOUT, rng), stop=2 * STEP)
    shutil.copy(f"{other}.partial.journal", f"{output}.partial.journal")
    with pytest.raises(OutputError, match=r"ism\.h5\.partial is damaged: bytes after .* are not as written"):
        go_on(output, block_of(LAYOUT, rng), stop=LAYOUT.n_rows)


def test_flipped_bits_of_a_journal_are_refused(output, rng):
    block = block_of(LAYOUT, rng)
    with pytest.raises(KeyboardInterrupt):
        go_on(output, block, stop=2 * STEP)
    files = [f"{output}.partial", f"{output}.partial.journal"]
    intact = [Path(name).read_bytes() for name in files]
    for which in (0, 1):
        for at in rng.integers(0, 8 * len(intact[which]), 10):
            data = bytearray(intact[which])
            data[at // 8] ^= 1 << (at % 8)
            Path(files[which]).write_bytes(data)
            try:
                go_on(output, block, stop=LAYOUT.n_rows)
            except OutputError as error:
                assert "ism.h5.partial is damaged" in str(error) and "\n" not in str(error)
            else:
                assert_holds(output, LAYOUT, block)  # a page that the journal holds anyway
                output.unlink()
            for name, content in zip(files, intact, strict=True):
                Path(name).write_bytes(content)
