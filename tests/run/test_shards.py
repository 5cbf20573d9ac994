"""Shards, their merging, tiles, resumed runs, several devices: the arrays are those of one undisturbed run."""

import io
import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from fastism_cli.engine.batching import BatchLoop
from fastism_cli.errors import OutputError, ResourceError, SequenceError, UsageError
from fastism_cli.options.choices import Shard, array_expression, parse_shard
from fastism_cli.options.run_options import RunOptions, default_output
from fastism_cli.results import schema
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.scores import open_scores
from fastism_cli.run import job, worker_processes
from fastism_cli.run.score_regions import score_regions
from fastism_cli.run.start_backend import parse_devices
from fastism_cli.run.summary import START_UP, Silent
from fastism_cli.run.worker_processes import WorkerError, score_on_devices, score_spec
from tests.helpers.same_results import assert_same_array
from tests.helpers.small_run import LENGTH, RECORDS, Folder, codes_of

# Keras saves a weight with numpy.array(tensor), which numpy 2 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.one_in(2),
]


def score(
    folder: Folder,
    output: Path,
    *,
    model: str = "plain",
    bed: str | None = None,
    progress: Silent | None = None,
    **options,
):
    path = folder.models.get(model, model)
    chosen = RunOptions(**{"check": False, **options})
    return score_regions(path, bed or folder.bed, folder.fasta, str(output), chosen, progress=progress)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with read_result(path) as result:
        heads = {head.name: (result.reference(head.name)[:], result.delta(head.name)[:]) for head in result.heads}
        return {
            **result.regions,
            "seq": result.seq[:],
            **{f"{n}{i}": x for n, v in heads.items() for i, x in enumerate(v)},
        }


def assert_same(path: Path, expected: Path) -> None:
    found, wanted = arrays(path), arrays(expected)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert_same_array(found[name], wanted[name], name)


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 11, 100])
def test_shards_cover_every_row_once(count):
    ranges = [Shard(i, count).rows(10) for i in range(count)]
    assert [row for rows in ranges for row in rows] == list(range(10))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["3/3", "1/0", "-1/3", "1", "a/b", "1/3/5", ""])
def test_wrong_shards(text):
    with pytest.raises(UsageError, match=f"Received: .*{re.escape(text)}$"):
        parse_shard(text)


def test_the_output_has_both_numbers():
    assert default_output("x/peaks.bed.gz", "g.fa", Shard(3, 12)) == "peaks.shard-03-of-12.ism.h5"


def test_array_expressions():
    assert array_expression([]) == ""
    assert array_expression([9, 3, 7, 8, 12, 12]) == "3,7-9,12"


# --- merging ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(folder, tmp_path_factory) -> Path:
    """whole.h5 and its shards s0.h5 ... s7.h5: more shards than records."""
    path = tmp_path_factory.mktemp("shards")
    options = {"stranded": True, "window": "-8:13", "offset": 2}
    score(folder, path / "whole.h5", **options)
    for i in range(8):
        score(folder, path / f"s{i}.h5", shard=f"{i}/8", **options)
    return path


def shards_of(folder: Path) -> list[str]:
    return [str(folder / f"s{i}.h5") for i in range(8)]


@pytest.mark.one_in(36)
@pytest.mark.parametrize("virtual", [False, True])
def test_merged_shards_are_one_run(sharded, tmp_path, virtual, monkeypatch):
    monkeypatch.setattr("fastism_cli.results.merge_shards.BLOCK_BYTES", 1)
    merged = tmp_path / "merged.h5"
    assert merge_shards(shards_of(sharded)[::-1], str(merged), virtual=virtual) == len(RECORDS)
    assert_same(merged, sharded / "whole.h5")
    with read_result(merged) as found, read_result(sharded / "whole.h5") as whole:
        assert found.complete and found.heads == whole.heads and found.genome_sizes == whole.genome_sizes
        same = set(schema.ATTRIBUTES) - {"created", "command"}
        assert {name: found.attrs.get(name) for name in same} == {name: whole.attrs.get(name) for name in same}
    assert os.listdir(tmp_path) == ["merged.h5"]


def test_an_empty_shard_is_a_valid_empty_file(sharded):
    with read_result(sharded / "s0.h5") as result:
        assert result.complete and result.delta().shape == (0, 3, LENGTH, 4)
        assert (result.attrs["row_start"], result.attrs["row_stop"], result.attrs["n_total"]) == (0, 0, 6)
        assert (result.attrs["shard_index"], result.attrs["num_shards"]) == (0, 8)


def test_an_index_whose_shards_are_gone_is_refused(sharded, tmp_path):
    copies = [shutil.copy(path, tmp_path) for path in shards_of(sharded)]
    merge_shards(copies, str(tmp_path / "index.h5"), virtual=True)
    shutil.move(tmp_path / "s3.h5", tmp_path / "elsewhere.h5")
    with pytest.raises(UsageError, match=r"index\.h5 reads from 6 files, of which these are gone: s3\.h5"):
        read_result(tmp_path / "index.h5")


@pytest.mark.one_in(36)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path, other: os.truncate(path, 3000), r"s3\.h5 cannot be read: it is no HDF5 file, or a part of one"),
        (lambda path, other: shutil.copy(other, path), r"index\.h5 reads from .*s3\.h5, which has been replaced since"),
    ],
    ids=["cut", "replaced"],
)
def test_an_index_whose_shards_are_not_what_they_were_is_refused(sharded, tmp_path, change, message):
    copies = [shutil.copy(path, tmp_path) for path in shards_of(sharded)]
    merge_shards(copies, str(tmp_path / "index.h5"), virtual=True)
    read_result(tmp_path / "index.h5").close()
    change(tmp_path / "s3.h5", sharded / "whole.h5")
    with pytest.raises(UsageError, match=message):
        read_result(tmp_path / "index.h5")


@pytest.mark.parametrize(
    ("left_out", "message"),
    [([3, 7], "2 of 8 shards are missing: run --array=3,7"), ([5], "1 of 8 shards is missing: run --array=5")],
)
def test_missing_shards_are_an_array_expression(sharded, tmp_path, left_out, message):
    given = [path for i, path in enumerate(shards_of(sharded)) if i not in left_out]
    named = [path.replace("s3.h5", "gone.h5") for path in shards_of(sharded)]
    for paths in (given, [*given, str(tmp_path / "gone.h5")]):
        with pytest.raises(UsageError, match=message):
            merge_shards(paths, str(tmp_path / "m.h5"))
    with pytest.raises(UsageError, match=r"run --array=3$"):
        merge_shards(named, str(tmp_path / "m.h5"))
    assert os.listdir(tmp_path) == []


def test_shards_that_do_not_fit(sharded, folder, tmp_path):
    output, (first, *rest) = str(tmp_path / "m.h5"), shards_of(sharded)
    with pytest.raises(UsageError, match=r"s0\.h5 and .*copy\.h5 are both shard 0"):
        merge_shards([first, *rest, shutil.copy(first, tmp_path / "copy.h5")], output)
    score(folder, tmp_path / "other.h5", shard="0/8", stranded=True, window="-8:12", offset=2)
    with pytest.raises(
        UsageError, match=r"of different configurations: window: -8:1[23] and -8:1[23]\. Make all shards"
    ):
        merge_shards([str(tmp_path / "other.h5"), *rest], output)
    with pytest.raises(UsageError, match=r"stranded=True|the number of shards: 1 and 8"):
        merge_shards([str(sharded / "whole.h5"), *rest], output)
    with pytest.raises(UsageError, match=r"gone\.h5: no such file|none of the shards exists"):
        merge_shards([str(tmp_path / "gone.h5")], output)
    with pytest.raises(OutputError, match="is one of the shards"):
        merge_shards([first, *rest], first, overwrite=True)


@pytest.mark.one_in(36)
def test_a_model_that_changed_between_shards(folder, tmp_path):
    model = shutil.copy(folder.models["plain"], tmp_path / "m.keras")
    score(folder, tmp_path / "a.h5", model=str(model), shard="0/2")
    shutil.copy(folder.models["log"], model)
    score(folder, tmp_path / "b.h5", model=str(model), shard="1/2")
    with pytest.raises(UsageError, match=r"of different configurations: the model file \(SHA-256 \w{8}\.\.\. and "):
        merge_shards([str(tmp_path / "a.h5"), str(tmp_path / "b.h5")], str(tmp_path / "m.h5"))


# --- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("stranded", [False, True])
@pytest.mark.parametrize(("interval", "window"), [((3, 119), None), ((3, 119), 7), ((0, 300), 20), ((50, 55), 20)])
def test_tiles_score_every_base_once_with_context(folder, tmp_path, interval, window, stranded):
    start, end = interval
    bed = folder.bed_of("interval.bed", f"chrA {start} {end} x 0 -")
    summary = score(folder, tmp_path / "t.h5", bed=bed, tile=True, window=window, stranded=stranded)
    codes, covered = codes_of("chrA", 0, 300), np.zeros(300, int)
    with open_scores(tmp_path / "t.h5") as scores:
        assert scores.window == (window or 20)
    with read_result(tmp_path / "t.h5") as result:
        regions, delta, seq = result.regions, result.delta()[:, 0], result.seq[:]
    assert summary.regions == len(delta) == -(-(end - start) // (window or 20)) and set(regions["bed_row"]) == {0}
    for i in range(len(delta)):
        bases = regions["input_start"][i] + np.arange(LENGTH)[:: -1 if stranded else 1]
        done = np.isfinite(delta[i]).all(1)
        wanted = (bases >= regions["start"][i]) & (bases < regions["end"][i]) & (seq[i] < 4)
        np.testing.assert_array_equal(done, wanted if regions["status"][i] == 1 else False)
        assert np.isnan(delta[i][~done]).all()
        covered[bases[done]] += 1
        if i not in (1, len(delta) - 1):
            continue
        single = score_one(folder, tmp_path, bases, stranded)
        np.testing.assert_allclose(delta[i][done], single[done], rtol=1e-5, atol=2e-6)
    expected = np.zeros(300, int)
    expected[start:end] = codes[start:end] < 4
    np.testing.assert_array_equal(covered, expected)
    assert sum(regions["end"] - regions["start"]) == end - start


def score_one(folder: Folder, tmp_path: Path, bases: np.ndarray, reverse: bool) -> np.ndarray:
    """Scores of one input that covers ``bases``, by a run without tiles."""
    middle = int(bases.min()) + LENGTH // 2
    if middle < 1:
        return np.full((LENGTH, 4), np.nan)
    bed = folder.bed_of("one.bed", f"chrA {middle} {middle + 1} x 0 {'-' if reverse else '+'}")
    score(folder, tmp_path / "one.h5", bed=bed, stranded=reverse, overwrite=True)
    with read_result(tmp_path / "one.h5") as result:
        return result.delta()[0, 0]


@pytest.mark.one_in(36)
def test_tiles_are_sharded(folder, tmp_path):
    bed = folder.bed_of("long.bed", "chrA 10 190", "chrB 5 15")
    score(folder, tmp_path / "whole.h5", bed=bed, tile=True, window=10)
    shards = [str(tmp_path / f"{i}.h5") for i in range(4)]
    for i, path in enumerate(shards):
        score(folder, Path(path), bed=bed, tile=True, window=10, shard=f"{i}/4")
    merge_shards(shards, str(tmp_path / "merged.h5"))
    assert_same(tmp_path / "merged.h5", tmp_path / "whole.h5")


def test_longer_intervals_are_counted_and_told(folder, tmp_path, caplog):
    with caplog.at_level("WARNING", "fastism_cli"):
        summary = score(folder, tmp_path / "o.h5")
    assert summary.n_longer == 3  # of 60, 41 and 41 bases; the input has 40
    assert "3 of 6 intervals of " in caplog.text and "only their middle is scored. Use tile=True" in caplog.text
    caplog.clear()
    score(folder, tmp_path / "t.h5", tile=True)
    assert "are longer" not in caplog.text


# --- resumed runs -----------------------------------------------------------------------------------------------------


class Stops(Silent):
    """Interrupts after so many rows, or does something else there."""

    def __init__(self, rows: int, act=None) -> None:
        self.rows, self.act = rows, act or self.interrupt

    @staticmethod
    def interrupt() -> None:
        raise KeyboardInterrupt

    def advance(self, rows: int, substitutions: int) -> None:
        self.rows -= rows
        if self.rows <= 0:
            self.act()


@pytest.fixture
def by_one(monkeypatch):
    """A block for each row, and a checkpoint after each."""
    monkeypatch.setattr(job.Job, "block_rows", 1)


def interrupted(folder: Folder, output: Path, rows: int = 3, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(folder, output, progress=Stops(rows), checkpoint=0, **options)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("options", [{}, {"tile": True, "window": 9}, {"shard": "1/2"}, {"dtype": "float16"}], ids=str)
def test_a_resumed_run_is_one_run(folder, tmp_path, by_one, options):
    score(folder, tmp_path / "whole.h5", **options)
    output = tmp_path / "o.h5"
    interrupted(folder, output, rows=2, **options)
    summary = score(folder, output, resume=True, **options)
    assert summary.resumed >= 2 and not list(tmp_path.glob("*partial*"))
    assert_same(output, tmp_path / "whole.h5")
    again = score(folder, output, resume=True, **options)
    assert (again.regions, again.resumed, again.substitutions) == (summary.regions, summary.regions, 0)


@pytest.mark.one_in(36)
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_is_resumed_from_another_folder_under_other_names(folder, tmp_path, by_one, monkeypatch, finished):
    """Paths relative, absolute, with dots, by links; files copied, or touched since: the content decides."""
    home, elsewhere = tmp_path / "home", tmp_path / "else/where"
    for place in (home / "data", elsewhere):
        place.mkdir(parents=True)
    copies = {name: shutil.copy(source, home / "data" / name) for name, source in
        {"m.keras": folder.models["plain"], "p.bed": folder.bed, "g.fa": folder.fasta}.items()}  # fmt: skip
    score(folder, tmp_path / "whole.h5")
    monkeypatch.chdir(home)
    relative = ("data/m.keras", "data/p.bed", "data/g.fa", "o.h5")
    chosen = RunOptions(check=False, checkpoint=0)
    with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        score_regions(*relative, chosen, progress=Silent() if finished else Stops(2))
    for seconds, path in enumerate(copies.values()):
        os.utime(path, (seconds, seconds))
    (elsewhere / "linked").symlink_to(home)
    (elsewhere / "peaks.bed").symlink_to(home / "data/p.bed")
    shutil.copy(copies["m.keras"], elsewhere / "other name.keras")
    monkeypatch.chdir(elsewhere)
    others = ("other name.keras", "peaks.bed", "linked/data/../data/g.fa", str(tmp_path / "else/../home/o.h5"))
    summary = score_regions(*others, RunOptions(check=False, resume=True))
    assert summary.resumed >= (6 if finished else 2)
    assert_same(home / "o.h5", tmp_path / "whole.h5")
    assert sorted(os.listdir(home)) == ["data", "o.h5"]


@pytest.mark.one_in(36)
def test_resume_says_what_differs(folder, tmp_path, by_one):
    output = tmp_path / "o.h5"
    interrupted(folder, output, window=10)
    with pytest.raises(OutputError, match=r"partial was made by another configuration: window: 10 and 12\. Give"):
        score(folder, output, resume=True, window=12)
    bed = folder.bed_of("other.bed", *RECORDS[::-1])
    with pytest.raises(OutputError, match=r"another configuration: the BED \(SHA-256"):
        score(folder, output, resume=True, window=10, bed=bed)
    with pytest.raises(OutputError, match="another configuration: the model file"):
        score(folder, output, resume=True, window=10, model="log")
    with pytest.raises(OutputError, match=r"row_stop: 6 and 3; num_shards: 1 and 2"):
        score(folder, output, resume=True, window=10, shard="0/2")
    score(folder, output, resume=True, window=10)
    with pytest.raises(OutputError, match=r"o\.h5 was made by another configuration: window: 10 and 12\. Give"):
        score(folder, output, resume=True, window=12)


@pytest.mark.one_in(36)
def test_another_fasta_is_not_resumed(folder, tmp_path, by_one):
    fasta = shutil.copy(folder.fasta, tmp_path / "g.fa")
    with pytest.raises(KeyboardInterrupt):
        score_regions(
            folder.models["plain"],
            folder.bed,
            str(fasta),
            str(tmp_path / "o.h5"),
            RunOptions(check=False),
            progress=Stops(2),
        )
    name, bases = Path(fasta).read_text().split("\n", 1)
    Path(fasta).write_text(f"{name}\n{bases.replace('A', 'C', 1)}")
    with pytest.raises(OutputError, match=r"another configuration: the FASTA \(SHA-256"):
        score_regions(folder.models["plain"], folder.bed, str(fasta), str(tmp_path / "o.h5"), RunOptions(resume=True))


def test_resume_and_overwrite_exclude_each_other(folder, tmp_path):
    with pytest.raises(UsageError, match="resume=True continues a result and overwrite=True replaces it"):
        score(folder, tmp_path / "o.h5", resume=True, overwrite=True)


def test_a_region_that_failed_is_told_again(folder, tmp_path, by_one):
    output = tmp_path / "o.h5"
    interrupted(folder, output, model="log")
    summary = score(folder, output, model="log", resume=True)
    assert summary.failed == 5 and score(folder, output, model="log", resume=True).failed == 5


# --- inputs that change -----------------------------------------------------------------------------------------------


@pytest.mark.one_in(36)
@pytest.mark.parametrize("what", ["cut", "swapped"])
def test_a_fasta_that_changes_during_the_run(folder, tmp_path, by_one, what):
    fasta = Path(shutil.copy(folder.fasta, tmp_path / "g.fa"))
    text = fasta.read_text()

    def change() -> None:
        if what == "cut":
            os.truncate(fasta, 30)
        else:
            (tmp_path / "new.fa").write_text(text.replace("A", "C"))
            os.replace(tmp_path / "new.fa", fasta)

    with pytest.raises((UsageError, SequenceError), match=r"g\.fa( has changed since this run began|.*truncated)"):
        score_regions(
            folder.models["plain"],
            folder.bed,
            str(fasta),
            str(tmp_path / "o.h5"),
            RunOptions(check=False),
            progress=Stops(2, change),
        )
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.one_in(36)
def test_out_of_memory_halves_the_batch(folder, tmp_path, monkeypatch):
    score(folder, tmp_path / "whole.h5", batch_size=30)
    started, sizes = BatchLoop._pieces_of, []

    def small_memory(self, task):
        sizes.append(self.batching.substitutions)
        if sizes[-1] > 30:
            raise MemoryError
        yield from started(self, task)

    monkeypatch.setattr(BatchLoop, "_pieces_of", small_memory)
    score(folder, tmp_path / "o.h5", batch_size=120)
    assert sizes[:3] == [120, 60, 30]
    with read_result(tmp_path / "o.h5") as found, read_result(tmp_path / "whole.h5") as whole:
        np.testing.assert_allclose(found.delta()[:], whole.delta()[:], rtol=1e-5, atol=2e-6)

    def no_memory(self, task):
        raise MemoryError

    monkeypatch.setattr(BatchLoop, "_pieces_of", no_memory)
    with pytest.raises(ResourceError, match="Out of memory with 3 substitutions in one call; the model does not fit"):
        score(folder, tmp_path / "p.h5", batch_size=6)
    assert sorted(os.listdir(tmp_path)) == ["o.h5", "whole.h5"]


# --- what a run tells -------------------------------------------------------------------------------------------------


def test_summary(folder, tmp_path):
    path = tmp_path / "s.json"
    summary = score(folder, tmp_path / "o.h5", summary=str(path), check=True)
    told = json.loads(path.read_text())
    assert (told["regions"], told["substitutions"]) == (6, summary.substitutions)
    assert told["statuses"] == {"ok": 5, "too_many_n": 1}
    assert {"import", "load", "check", "read", "engine", "write", "scoring"} <= set(told["seconds_by_step"])
    assert 0 < told["start_up_seconds"] == pytest.approx(sum(told["seconds_by_step"][s] for s in START_UP), abs=0.01)
    assert 0 < told["engine_busy"] <= 1 and told["engine"] == "fast"
    assert told["peak_memory_bytes"] > 50e6 and told["output_bytes"] == (tmp_path / "o.h5").stat().st_size
    with pytest.raises(OutputError, match=r"s\.json: folder .*/gone does not exist\. Make it"):
        score(folder, tmp_path / "p.h5", summary=str(tmp_path / "gone" / "s.json"))


# --- several devices --------------------------------------------------------------------------------------------------


def test_devices(monkeypatch):
    assert parse_devices(None) == [] and parse_devices("0,2") == ["0", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert parse_devices("all") == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert parse_devices("all") == ["cpu"]
    with pytest.raises(UsageError, match="devices is all, or a list"):
        parse_devices("0,")


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTISM_DEVICE", "7")
    with pytest.raises(UsageError, match=r"devices 7: the backend finds no such GPU\. See nvidia-smi -L"):
        score(folder, tmp_path / "o.h5")
    assert os.listdir(tmp_path) == []


@pytest.mark.one_in(48)
def test_two_workers_make_one_result(folder, tmp_path):
    score(folder, tmp_path / "whole.h5", shard="0/1")
    output, told = tmp_path / "o.h5", tmp_path / "s.json"
    arguments = (folder.models["plain"], folder.bed, folder.fasta, str(output))
    summary = score_on_devices(*arguments, RunOptions(devices="cpu,cpu", check=False, summary=str(told)))
    assert_same(output, tmp_path / "whole.h5")
    assert sorted(os.listdir(tmp_path)) == ["o.h5", "s.json", "whole.h5"]
    workers = json.loads(told.read_text())["devices"]
    assert [worker["regions"] for worker in workers] == [3, 3] and summary.regions == 6
    with read_result(output) as found:
        assert (found.attrs["row_start"], found.attrs["row_stop"], found.attrs["num_shards"]) == (0, 6, 1)


@pytest.mark.one_in(48)
def test_a_worker_that_fails_is_told(folder, tmp_path, capfd):
    arguments = (folder.models["plain"], folder.bed, folder.fasta, str(tmp_path / "o.h5"))
    with pytest.raises(WorkerError, match=r"the worker on device cpu ended with status 2: see above"):
        score_on_devices(*arguments, RunOptions(devices="cpu,cpu", check=False, targets=["7"]))
    assert "Error: --targets: head 'out' has 3 targets" in capfd.readouterr().err
    assert not (tmp_path / "o.h5").exists()


@pytest.fixture
def faked(folder, tmp_path, monkeypatch):
    """Workers of this process, of which the last fails if ``fails`` is true; the call that starts them."""

    def run(specs, fails: bool) -> None:
        for spec in specs[: len(specs) - fails]:
            score_spec(json.loads(json.dumps(spec)), Silent())
        if fails:
            raise WorkerError("the worker on device cpu ended with status 1: see above")

    def call(bed=folder.bed, fails=False, **options):
        monkeypatch.setattr(worker_processes, "_run", lambda specs, devices: run(specs, fails))
        chosen = RunOptions(devices="cpu,cpu", check=False, **options)
        return score_on_devices(folder.models["plain"], bed, folder.fasta, str(tmp_path / "o.h5"), chosen)

    monkeypatch.setattr(worker_processes, "_start", lambda spec, device: spec)
    return call


def test_several_devices_name_stdin_as_one_does(faked, folder, tmp_path, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(Path(folder.bed).read_bytes()), closed=False, isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stdin)
    faked("-")
    with read_result(tmp_path / "o.h5") as found:
        assert found.attrs["bed_path"] == "stdin"


def test_rows_of_one_device_are_refused_before_several_begin(faked, folder, tmp_path, by_one):
    interrupted(folder, tmp_path / "o.h5")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(
        OutputError, match=r"o\.h5\.partial holds \d finished rows of a run on one device\. Continue it"
    ):
        faked(resume=True)
    assert sorted(os.listdir(tmp_path)) == before


def test_finished_parts_are_told_when_another_worker_fails(faked, tmp_path, caplog):
    with pytest.raises(WorkerError):
        faked(fails=True)
    assert f"{tmp_path}/o.h5.part-0-of-2 is kept: run again with resume=True to continue" in caplog.text
    caplog.clear()
    Path(f"{tmp_path}/o.h5.part-2-of-3.partial").touch()
    assert faked(resume=True).resumed == 3
    assert f"{tmp_path}/o.h5.part-*-of-3 are of a run on 3 devices, and are not continued by one on 2." in caplog.text
    assert "of-2 are of" not in caplog.text
    os.unlink(f"{tmp_path}/o.h5.part-2-of-3.partial")
    assert sorted(os.listdir(tmp_path)) == ["o.h5"]


def test_compression_beside_hdf5_is_read_by_hdf5(folder, tmp_path):
    score(folder, tmp_path / "o.h5")
    with h5py.File(tmp_path / "o.h5") as file:
        delta = file["delta/out"]
        assert (delta.compression, delta.shuffle) == ("gzip", True) and delta.id.get_storage_size() < delta.nbytes
