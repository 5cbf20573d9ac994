"""A damaged result never tells other numbers or words: its reader says what it holds, or refuses it in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.errors import ResourceError, UsageError
from fastism_cli.genome import input_files
from fastism_cli.options.choices import COMPRESSIONS
from fastism_cli.results import hdf5_files, ism_file, schema
from fastism_cli.results.contents import contents_of
from fastism_cli.results.intact import seal
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.layout import HeadLayout, Layout, PairsLayout, ReplacedBlocks
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.scores import open_scores
from fastism_cli.results.writer import ResultWriter
from tests.helpers.result_files import write_result

pytestmark = pytest.mark.one_in(2)

resource = pytest.importorskip("resource")

FLIPS = 25  # of each kind of file
ROWS, LENGTH = 6, 20
HEADS = (HeadLayout("a/b", (2,), ("x", "yé")), HeadLayout("c", (1,)))
ATTRIBUTES = {"config": '{"window": null}', "config_sha256": "c" * 64, "stranded": True, "input_length": LENGTH}


def make(path: Path, compression: str = "gzip", shard: int = 0, count: int = 1) -> str:
    """A result with values that gzip cannot make smaller; ``count`` shards have ROWS rows each."""
    layout, rng = Layout(ROWS, LENGTH, HEADS, compression=compression), np.random.default_rng(shard)
    start = ROWS * shard + np.arange(ROWS)
    rows = {"n_total": count * ROWS, "row_start": ROWS * shard, "row_stop": ROWS * (shard + 1)}
    attributes = {**ATTRIBUTES, **rows, "shard_index": shard, "num_shards": count}
    regions: dict[str, Any] = {name: start for name in ("start", "end", "input_start", "bed_row")}
    regions |= {"chrom": ["chr1"] * ROWS, "name": [f"peak {i}" for i in start], "strand": [*"+-"] * (ROWS // 2)}
    regions |= {"status": [1] * ROWS, "n_padded": [0] * ROWS}
    with ResultWriter(path, layout, attributes=attributes, genome_sizes={"chr1": 900, "chr2": 90}) as writer:
        writer.write_rows(
            0,
            regions=regions,
            seq=rng.integers(0, 4, layout.seq_shape),
            reference={head.name: rng.normal(size=layout.ref_shape(head)) for head in HEADS},
            delta={head.name: rng.normal(size=layout.delta_shape(head)) for head in HEADS},
        )
    return str(path)


def shards(folder: Path, count: int, compression: str = "none") -> list[str]:
    return [make(folder / f"s{i}.h5", compression, i, count) for i in range(count)]


def told(path: str) -> list[object]:
    """All that readers tell of a result."""
    with open_scores(path) as scores:
        blocks = [(block.seq.tobytes(), block.delta.tobytes()) for block in scores.blocks()]
        reference = scores.predictions(np.arange(scores.n_rows), scores.tracks).tobytes()
        columns = {name: list(values) for name, values in scores.regions.items()}
        return [contents_of(path), scores.file.attrs, scores.file.genome_sizes, columns, blocks, reference]


# --- single bits -----------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", [*COMPRESSIONS, "index"])
def test_a_flipped_bit_changes_nothing_or_is_refused(tmp_path, kind):
    path = tmp_path / "r.h5"
    if kind == "index":
        files = [Path(shard) for shard in shards(tmp_path, 2)]
        merge_shards([str(file) for file in files], str(path), virtual=True)
    else:
        files = []
        make(path, kind)
    files.append(path)
    before, rng, outcomes = told(str(path)), random.Random(kind), Counter()
    for _ in range(FLIPS):
        file = rng.choice(files)
        intact = file.read_bytes()
        bit = rng.randrange(8 * len(intact))
        file.write_bytes(intact[: bit // 8] + bytes([intact[bit // 8] ^ 1 << bit % 8]) + intact[bit // 8 + 1 :])
        try:
            after = told(str(path))
        except UsageError as error:
            assert "\n" not in str(error) and str(file) in str(error), error
            outcomes["refused"] += 1
        else:
            assert after == before, f"bit {bit} of {file.name}"
            outcomes["same"] += 1
        file.write_bytes(intact)
    assert outcomes["refused"] > FLIPS / 2  # the file is dense enough that the test sees something


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_dataset_has_a_checksum_that_every_reader_knows(tmp_path, compression):
    def look(name: str, found: object) -> None:
        if isinstance(found, h5py.Dataset):
            is_text = found.dtype == object
            assert is_text or found.fletcher32 or found.compression == "gzip", name  # gzip has Adler-32
            assert not is_text or found.attrs["crc32"].all(), name
            numbers[name] = found[()]

    numbers: dict[str, np.ndarray] = {}
    with h5py.File(make(tmp_path / "r.h5", compression)) as file:
        file.visititems(look)
        assert set(json.loads(file.attrs["checksums"])) >= set(file.attrs) - {"checksums"}
    assert len(numbers) == len(schema.REGION_COLUMNS) + 1 + 2 * len(HEADS) + 2 + len(HEADS)


@pytest.mark.one_in(36)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_numbers_that_somebody_wrote_anew_are_told(tmp_path, read_here, compression):
    """HDF5 makes new checksums then; what is as it was is read."""
    intact = make(tmp_path / "r.h5", compression)
    before = told(intact)
    for name in ("seq", "ref/c", "delta/a_b", "regions/start", "regions/status", "genome/chrom_sizes"):
        path = shutil.copy(intact, tmp_path / "damaged.h5")
        with h5py.File(path, "r+") as file:
            file[name][-1:] = file[name][-1:]  # the same
        assert told(path)[2:] == before[2:], name
        with h5py.File(path, "r+") as file:
            file[name][-1:] = file[name][-1:] + 1
        with pytest.raises(
            UsageError, match=rf"damaged\.h5 is damaged: the numbers in /{name} are not as written\. Copy"
        ):
            told(path)


REPACKED: dict[str, dict[str, Any]] = {
    "-f GZIP=9": {"compression": "gzip", "compression_opts": 9},
    "-f SHUF -f GZIP=4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "-f FLET": {"fletcher32": True},
    "-l CONTI": {"chunks": None},
    "-l CHUNK": {"chunks": True},
}


def repack(path: str, output: Path, options: dict[str, Any]) -> str:
    """As h5repack does with these options: everything that was in the file, in other chunks or with other filters."""
    with h5py.File(path) as old, h5py.File(output, "w") as new:

        def copy(name: str, found: h5py.Group | h5py.Dataset) -> None:
            if isinstance(found, h5py.Group):
                made = new.require_group(name) if name != schema.OUTPUTS else new.create_group(name, track_order=True)
            elif found.dtype == object:  # no filter of h5repack reaches text
                chunks = options.get("chunks", found.chunks) if found.chunks else None
                made = new.create_dataset(name, data=found[:], dtype=found.dtype, chunks=chunks)
            else:
                kept = {"chunks": found.chunks, "fillvalue": found.fillvalue}
                made = new.create_dataset(name, data=found[:], **(kept | options))
            for key, value in found.attrs.items():
                made.attrs[key] = value

        for key, value in old.attrs.items():
            new.attrs[key] = value
        old.visititems(copy)
    return str(output)


@pytest.mark.one_in(24)
@pytest.mark.parametrize("options", REPACKED.values(), ids=REPACKED)
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_sound_file_that_was_repacked_is_read(tmp_path, compression, options, monkeypatch):
    """Its sums were those of other chunks."""
    monkeypatch.setattr(schema, "COLUMN_CHUNK_ROWS", 4)
    path = make(tmp_path / "r.h5", compression)
    assert told(repack(path, tmp_path / "repacked.h5", options))[1:] == told(path)[1:]


def test_numbers_are_compared_in_the_file_that_is_open(tmp_path, monkeypatch):
    """Its name may be that of another file by now, or of none in the folder where the process has gone."""
    other = make(tmp_path / "other.h5", shard=1)
    monkeypatch.chdir(tmp_path)
    with open_scores(make(Path("r.h5"))) as scores, open_scores("r.h5") as second:
        expected = scores.predictions(np.arange(ROWS), scores.tracks)
        monkeypatch.chdir("/")
        assert np.isfinite(next(scores.blocks()).delta).all()
        shutil.copy(other, tmp_path / "new.h5")
        os.replace(tmp_path / "new.h5", tmp_path / "r.h5")
        np.testing.assert_array_equal(second.predictions(np.arange(ROWS), second.tracks), expected)


def test_the_shards_of_an_index_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    merge_shards(shards(Path(), 2), "index.h5", virtual=True)
    with read_result("index.h5") as index:
        monkeypatch.chdir("/")
        assert np.isfinite(index.delta("c")[:]).all()


def test_very_many_chunks_are_neither_listed_nor_compared(tmp_path, monkeypatch):
    """On the file system of a cluster that would take minutes."""
    monkeypatch.setattr("fastism_cli.results.intact.MOST_CHUNKS", 1)
    monkeypatch.setattr(schema, "CHUNK_BYTES", 1 << 10)
    path = make(tmp_path / "r.h5")
    with h5py.File(path) as file:
        assert "chunks_crc32" not in file["delta/c"].attrs and "chunks_crc32" in file["ref/c"].attrs
    assert told(path)


def test_numbers_of_a_run_that_was_stopped_and_resumed_are_as_written(tmp_path):
    layout = Layout(ROWS, LENGTH, HEADS, compression="none")
    options: dict[str, Any] = {"attributes": ATTRIBUTES, "genome_sizes": {"chr1": 900}, "checkpoint_seconds": 0}
    regions: dict[str, Any] = {name: [7] for name in ("start", "end", "input_start", "bed_row", "n_padded")}
    regions |= {"chrom": ["chr1"], "name": ["x"], "strand": ["+"], "status": [1]}
    for stop in (2, 4, ROWS):
        with suppress(KeyboardInterrupt), ResultWriter(tmp_path / "r.h5", layout, **options, resume=True) as writer:
            for row in range(writer.rows_done, stop):
                writer.write_rows(row, regions=regions, seq=np.zeros((1, LENGTH)))
                writer.checkpoint_if_due()
            if stop < ROWS:
                raise KeyboardInterrupt
    with read_result(tmp_path / "r.h5") as result:
        assert result.seq[:].sum() == 0 and result.regions["start"].tolist() == ROWS * [7]
        assert all("chunks_crc32" in result.dataset(name).attrs for name in ("seq", "ref/c", "delta/a_b"))


def test_text_of_many_chunks_is_checked_chunk_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "COLUMN_CHUNK_ROWS", 2)
    path = make(tmp_path / "r.h5")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data.replace(b"peak 4", b"peak 9"))
    with read_result(path) as result:
        assert result.columns.slice("name", 0, 4).tolist() == [f"peak {i}" for i in range(4)]
        with pytest.raises(UsageError, match=r"r\.h5 is damaged: the text in /regions/name is not as written\. Copy"):
            result.columns.slice("name", 5)


def test_a_result_without_checksums_is_read(tmp_path):
    """Version 0.1 wrote none."""
    path = make(tmp_path / "r.h5", "none")
    before = told(path)
    with h5py.File(path, "r+") as file:
        for name, attribute in schema.ATTRIBUTES.items():
            if name not in file.attrs:
                file.attrs[name] = attribute.kind()
        attributes = {name: value for name, value in file.attrs.items() if name != "checksums"}
        del file.attrs["checksums"]
        for dataset in ("regions/chrom", "regions/name", "genome/chrom_names", "outputs/c/names"):
            del file[dataset].attrs["crc32"]
    after = told(path)
    assert set(after[1]) == set(attributes) and after[2:] == before[2:]


# --- structure -------------------------------------------------------------------------------------------------------

DATASETS = [f"regions/{name}" for name in schema.REGION_COLUMNS] + [
    "genome/chrom_names",
    "genome/chrom_sizes",
    "outputs/c/names",
    "seq",
    "ref/c",
    "delta/a_b",
]
GROUPS = ["regions", "genome", "outputs", "outputs/c", "ref", "delta"]


def replaced(file: h5py.File, name: str, data: Any) -> None:
    del file[name]
    file[name] = data


def rest_of(values: np.ndarray) -> np.ndarray:
    return values[:-1] if len(values) > 1 else np.concatenate([values, values])


DAMAGES = {
    "missing": lambda file, name: file.__delitem__(name),
    "a group": lambda file, name: (file.__delitem__(name), file.create_group(name)),
    "other type": lambda file, name: replaced(file, name, np.zeros(file[name].shape, "complex64")),
    "shorter": lambda file, name: replaced(file, name, rest_of(file[name][()])),
    "more axes": lambda file, name: replaced(file, name, file[name][()][..., None, None]),
    "a scalar": lambda file, name: replaced(file, name, 3),
    "empty": lambda file, name: replaced(file, name, h5py.Empty("f4")),
    "a broken link": lambda file, name: (file.__delitem__(name), file.__setitem__(name, h5py.SoftLink("/gone"))),
}


@pytest.fixture
def read_here(monkeypatch):
    """No child reads first: h5py itself made the damage, so that the files are sound HDF5, and there are hundreds."""
    monkeypatch.setattr(input_files, "found_by_child", lambda find, seconds: find())


@pytest.mark.one_in(48)
@pytest.mark.parametrize("damage", DAMAGES)
def test_datasets_that_are_not_as_they_should_be_are_told(tmp_path, read_here, damage):
    intact = make(tmp_path / "r.h5")
    for name in DATASETS:
        path = shutil.copy(intact, tmp_path / "damaged.h5")
        with h5py.File(path, "r+") as file:
            DAMAGES[damage](file, name)
        assert_told(path)


def test_groups_that_are_not_as_they_should_be_are_told(tmp_path, read_here):
    intact = make(tmp_path / "r.h5")
    for name in GROUPS:
        for change in (lambda f, n: f.__delitem__(n), lambda f, n: replaced(f, n, np.zeros(3))):
            path = shutil.copy(intact, tmp_path / "damaged.h5")
            with h5py.File(path, "r+") as file:
                change(file, name)
            assert_told(path, name.split("/")[0])


@pytest.mark.one_in(36)
@pytest.mark.parametrize("with_sums", [True, False])
def test_attributes_that_are_not_as_they_should_be_are_told(tmp_path, read_here, with_sums):
    intact = write_result(tmp_path / "r.h5", **{name: known.kind() for name, known in schema.ATTRIBUTES.items()
        if not known.by_writer and name not in ("config", "stranded", "input_length", "fastism_version")})  # fmt: skip
    with h5py.File(intact, "r+") as file:
        names = [*(set(schema.ATTRIBUTES) - {"format", "format_version"}), "outputs/count@name", "outputs/count@reduce"]
        if not with_sums:
            del file.attrs["checksums"]
    others = {str: [7, np.zeros(3)], int: ["x", -1], bool: ["yes", np.zeros(2)]}
    for name in names:
        place, _, last = name.rpartition("@")
        kind = schema.ATTRIBUTES[name].kind if name in schema.ATTRIBUTES else str
        may_lack = not with_sums and name in schema.ATTRIBUTES and not schema.ATTRIBUTES[name].is_in_first
        for value in (*([] if may_lack else [None]), *others[kind]):
            path = shutil.copy(intact, tmp_path / "damaged.h5")
            with h5py.File(path, "r+") as file:
                attributes = file[place or "/"].attrs
                del attributes[last]
                if value is not None:
                    attributes[last] = value
            assert_told(path, name)


PAIRS = PairsLayout(2, 5, 3)
BLOCKS = ReplacedBlocks(2, 3, 4, 5, 2, "x.npy")
WRONG_JSON = {
    "config": [
        '{"inputs": 5}', '{"target_names": [1]}', '{"custom_objects": "x"}', '{"rules": {"a": 1}}', '{"weights": 3}',
        '{"replace_with": [1]}', '{"window": [3]}', "[1]", "nan", 9000 * "[",
    ],
    "pairs": [
        *(json.dumps(asdict(PAIRS) | change) for change in (
            {"first": -1}, {"first": "x"}, {"first": None}, {"first": 10**40}, {"first": 16}, {"count": 5.0},
            {"within": True}, {"within": 0}, {"more": 1},
        )), "[]", "{}",
    ],
    "blocks": [
        *(json.dumps(asdict(BLOCKS) | change) for change in (
            {"first": -1}, {"step": None}, {"step": 10**40}, {"width": "4"}, {"width": 7}, {"count": 5.0},
            {"replace_with": 3}, {"step": 0}, {"width": 0}, {"contents": 0},
        )), "[]", "{}",
    ],
    "averaged": [
        '{"models": []}', "[]",
        '{"models": [], "rc": "yes", "rc_pairs": [], "shifts": [0], "average": "scores", "spread": false}',
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_JSON)
def test_json_that_another_program_wrote_is_checked(tmp_path, read_here, name):
    """With the right checksum."""
    layout = Layout(
        1, LENGTH, HEADS, blocks=BLOCKS if name == "blocks" else None, pairs=PAIRS if name == "pairs" else None
    )
    with ResultWriter(tmp_path / "damaged.h5", layout, attributes=ATTRIBUTES, genome_sizes={"chr1": 900}):
        pass
    read_result(tmp_path / "damaged.h5").close()
    for text in WRONG_JSON[name]:
        with h5py.File(tmp_path / "damaged.h5", "r+") as file:
            file.attrs[name] = text
            seal(file)
        with pytest.raises(
            UsageError, match=r"damaged\.h5(:| is damaged:) .*[Cc]opy it again, or run again\.$"
        ) as found:
            read_result(tmp_path / "damaged.h5")
        assert "\n" not in str(found.value)


def assert_told(path: str, name: str = "") -> None:
    with pytest.raises(
        UsageError, match=rf"damaged\.h5 is damaged: .*{name}.*(Copy it again, or run again\.)$"
    ) as found:
        read_result(path)
    assert "\n" not in str(found.value)


READERS = {
    "info": [],
    "info --json": [],
    "export": ["--format", "tsv", "--output", "o.tsv"],
    "report": ["--output", "o.html"],
    "plot": ["--top", "1", "--output", "o.png"],
    "merge": ["--output", "o.h5"],
}


@pytest.mark.parametrize("command", READERS)
def test_every_command_refuses_a_damaged_result(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    with h5py.File(make(Path("r.h5")), "r+") as file:
        del file["outputs/c/names"]
    found = CliRunner().invoke(main, [*command.split(), "r.h5", *READERS[command]])
    assert found.exit_code == 2 and os.listdir() == ["r.h5"]
    assert found.stderr == (
        "Error: r.h5 is damaged: the dataset /outputs/c/names is missing or cannot be read. "
        "Copy it again, or run again.\n"
    )


# --- an index of shards ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """12 shards, their copy and their index."""
    folder = tmp_path_factory.mktemp("many")
    paths = shards(folder, 12)
    merge_shards(paths, str(folder / "copy.h5"))
    merge_shards(paths, str(folder / "index.h5"), virtual=True)
    return folder


@contextmanager
def few_files(count: int) -> Iterator[None]:
    """Allow this process so many more open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1 + count, before[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.one_in(36)
def test_few_open_files_are_enough(many, tmp_path):
    with few_files(8):
        merge_shards([str(many / f"s{i}.h5") for i in range(12)], str(tmp_path / "copy.h5"))
        merge_shards([str(many / f"s{i}.h5") for i in range(12)], str(tmp_path / "index.h5"), virtual=True)
        found = [told(str(tmp_path / name)) for name in ("copy.h5", "index.h5")]
    assert found[0][2:] == found[1][2:] == told(str(many / "copy.h5"))[2:]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_open_files_are_told_as_that(many, count):
    message = r"\.h5 cannot be opened: \d+ open files are allowed, and all are in use\. Raise it: ulimit -n \d+$"
    with few_files(count), pytest.raises(ResourceError, match=message):  # one: for the index, none for a shard
        told(str(many / "index.h5"))


@pytest.mark.one_in(24)
def test_an_index_is_sliced_like_a_dataset(many):
    with read_result(many / "index.h5") as index, read_result(many / "copy.h5") as copy:
        for name in ("a/b", "c"):
            joined, whole = index.delta(name), copy.delta(name)
            assert (joined.shape, joined.dtype, len(joined)) == (whole.shape, whole.dtype, len(whole))
            for key in (
                np.s_[:], np.s_[5:8], np.s_[3], np.s_[-1], np.s_[...], np.s_[2:60:7], np.s_[4:13, 0], np.s_[7, 0, 3],
                np.s_[..., 2], np.s_[9:9], np.s_[[1, 5, 40]], np.s_[:, 0, 2:9, 1],
            ):  # fmt: skip
                np.testing.assert_array_equal(joined[key], whole[:][key])
        np.testing.assert_array_equal(np.asarray(index.seq), copy.seq[:])


@pytest.mark.one_in(36)
@pytest.mark.parametrize("change", ["gone", "another shard", "damaged"])
def test_a_shard_that_changes_after_the_index_was_opened_is_never_nan(many, tmp_path, change):
    for name in [*(f"s{i}.h5" for i in range(12)), "index.h5"]:
        shutil.copy(many / name, tmp_path)
    with read_result(tmp_path / "index.h5") as index:
        if change == "gone":
            os.unlink(tmp_path / "s7.h5")
        elif change == "another shard":
            shutil.copy(tmp_path / "s8.h5", tmp_path / "s7.h5")
        else:
            with h5py.File(tmp_path / "s7.h5", "r+") as file:
                del file["delta/c"]
        with pytest.raises(UsageError, match=r"s7\.h5"):
            index.delta("c")[:]
        assert not np.isnan(index.delta("c")[: 7 * ROWS]).any()
    if change == "another shard":
        with pytest.raises(UsageError, match=r"s7\.h5, which has been replaced since"):
            read_result(tmp_path / "index.h5")


def rewrite(path: Path, name: str, row: int = 2) -> None:
    with h5py.File(path, "r+") as file:
        values = file[name][row]
        file[name][row] = values[::-1] if values.ndim == 1 else values * 2


REWRITES = {
    "one row": rewrite,
    "another dataset": lambda path, name: replace_by(path, name, chunks=None),
    "other chunks": lambda path, name: replace_by(path, name, chunks=True),
    "the same values": lambda path, name: replace_by(path, name, chunks=None, factor=1),
}


def replace_by(path: Path, name: str, factor: int = 2, **options: Any) -> None:
    with h5py.File(path, "r+") as file:
        values = file[name][()] * np.array(factor, file[name].dtype)
        del file[name]
        file.create_dataset(name, data=values, **options)


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("compression", "name", "how"),
    [
        *((compression, "/delta/c", "one row") for compression in COMPRESSIONS),
        ("gzip", "/seq", "one row"),
        ("none", "/ref/a_b", "other chunks"),
        ("lzf", "/delta/a_b", "another dataset"),
        ("gzip", "/ref/c", "the same values"),
    ],
)
def test_a_shard_in_which_somebody_wrote_is_not_read(tmp_path, compression, name, how):
    """HDF5 makes new checksums then. All else is read as before."""
    paths, index = shards(tmp_path, 3, compression), str(tmp_path / "index.h5")
    merge_shards(paths, index, virtual=True)
    times = os.stat(paths[1])
    with read_result(index) as before:
        whole = {n: before.dataset(n)[:] for n in ("/seq", "/ref/a_b", "/ref/c", "/delta/a_b", "/delta/c")}
        REWRITES[how](shutil.copy(paths[1], tmp_path / "edited.h5"), name)
        os.replace(tmp_path / "edited.h5", paths[1])
        with pytest.raises(UsageError, match=rf"s1\.h5, whose {name} has been written anew since\. Merge the shards"):
            before.dataset(name)[:]
    os.utime(paths[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    with read_result(index) as after:
        with pytest.raises(UsageError, match=rf"index\.h5 reads from .*s1\.h5, whose {name} has been written anew"):
            after.dataset(name)[ROWS]
        for other, values in whole.items():
            rows = np.s_[:] if other != name else np.s_[:ROWS]
            np.testing.assert_array_equal(after.dataset(other)[rows], values[rows])


def test_shards_that_were_copied_or_touched_are_read(tmp_path):
    merge_shards(shards(tmp_path, 2), str(tmp_path / "index.h5"), virtual=True)
    before = told(str(tmp_path / "index.h5"))
    shutil.copytree(tmp_path, tmp_path / "copy")
    os.utime(tmp_path / "copy/s1.h5", (0, 0))
    assert told(str(tmp_path / "copy/index.h5"))[1:] == before[1:]


@pytest.mark.parametrize("name", ["regions/start", "regions/status", "genome/chrom_sizes"])
def test_numbers_that_somebody_wrote_anew_in_an_index_are_told(tmp_path, name):
    merge_shards(shards(tmp_path, 2), str(tmp_path / "index.h5"), virtual=True)
    with h5py.File(tmp_path / "index.h5", "r+") as file:
        file[name][0] += 1
    with pytest.raises(UsageError, match=rf"index\.h5 is damaged: the numbers in /{name} are not as written\. Copy"):
        told(str(tmp_path / "index.h5"))


def test_an_index_without_sums_is_read(tmp_path):
    """That of version 0.1."""
    merge_shards(shards(tmp_path, 2), str(tmp_path / "index.h5"), virtual=True)
    before = told(str(tmp_path / "index.h5"))
    with h5py.File(tmp_path / "index.h5", "r+") as file:
        for name in ("seq", "ref/a_b", "ref/c", "delta/a_b", "delta/c"):
            del file[name].attrs["shard_crc32"]
    assert told(str(tmp_path / "index.h5")) == before


def test_an_index_of_an_index_is_not_written(tmp_path):
    merge_shards(shards(tmp_path, 2), str(tmp_path / "index.h5"), virtual=True)
    with pytest.raises(UsageError, match=r"index\.h5 is an index of shards itself\. Merge its shards, or leave out"):
        merge_shards([str(tmp_path / "index.h5")], str(tmp_path / "second.h5"), virtual=True)
    merge_shards([str(tmp_path / "index.h5")], str(tmp_path / "copy.h5"))
    assert not (tmp_path / "second.h5").exists()


def test_few_shards_are_open_at_a_time(many):
    with read_result(many / "index.h5") as index:
        index.delta("c")[:]
        assert len(index._parts._open) == ism_file.MAX_OPEN_PARTS


def test_text_that_is_never_read_to_its_end_is_told(tmp_path, monkeypatch):
    """A damaged size in the place where HDF5 keeps text makes it run for ever."""

    def spin(path: str) -> str:
        while True:
            pass

    monkeypatch.setattr(hdf5_files, "_touch_text", spin)
    monkeypatch.setattr(hdf5_files, "SECONDS", 1)
    with pytest.raises(UsageError, match=r"run\.h5 is damaged: reading it does not end"):
        read_result(make(tmp_path / "run.h5"))
