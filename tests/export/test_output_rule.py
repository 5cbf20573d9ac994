"""No command changes a file that was there before, unless asked to; and an input never."""

import json
import os
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fastism_cli.cli import COMMANDS, main
from fastism_cli.errors import OutputError
from fastism_cli.export.export_scores import export_scores
from fastism_cli.genome import input_files
from fastism_cli.genome.input_files import content_sha256, file_sha256
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results import outputs, writer
from fastism_cli.results.crash_safe_file import open_disk
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.outputs import check_new_file
from fastism_cli.results.staging import is_stream, staged
from fastism_cli.run.request import RunRequest, check_outputs
from fastism_cli.run.summary import RunSummary, write_summary
from tests.helpers.result_files import write_result

pytestmark = pytest.mark.one_in(2)

EXAMPLES = Path(__file__).parents[2] / "examples"

# Every option and argument that takes a text, by what its text is. A new one must find its place here.
WRITES = {
    ("run", "output"),
    ("run", "summary"),
    ("pairs", "output"),
    ("pairs", "summary"),
    ("merge", "output"),
    ("export", "output"),
    ("plot", "output"),
    ("report", "output"),
    ("variants", "output"),
    ("top", "output"),
}
READS = {"model", "bed", "fasta", "vcf_path", "weights", "custom_objects", "rules", "inputs", "target_names"} | {
    "replace_with",
    "file",
    "files",
    "shards",
    "tracks",
    "highlights",
}
NO_FILE = {
    "window",
    "scale",
    "offset",
    "signature",
    "sequence_input",
    "tie",
    "codes",
    "length",
    "alphabet",
    "reduce",
    "rc_pairs",
    "shifts",
    "targets",
    "names",
    "region",
    "shard",
} | {
    "devices",
    "batch_size",
    "bases",
    "width",
    "height",
    "ylim",
    "title",
    "labels",
}

RUN = ["run", "-m", "in.keras", "-b", "in.bed", "-f", "in.fa"]
PAIRS = ["pairs", *RUN[1:], "--within", "3"]
VARIANTS = ["variants", "-m", "in.keras", "--vcf", "in.vcf", "-f", "in.fa"]
CALLS = {
    ("run", "output"): [*RUN, "-o"],
    ("run", "summary"): [*RUN, "-o", "new.h5", "--summary"],
    ("pairs", "output"): [*PAIRS, "-o"],
    ("pairs", "summary"): [*PAIRS, "-o", "new.h5", "--summary"],
    ("merge", "output"): ["merge", "r.h5", "-o"],
    ("export", "output"): ["export", "r.h5", "-t", "modisco-h5", "--targets", "count", "-o"],
    ("plot", "output"): ["plot", "r.h5", "--target", "count", "--name", "plus", "-o"],
    ("report", "output"): ["report", "r.h5", "-o"],
    ("variants", "output"): [*VARIANTS, "-o"],
    ("top", "output"): ["top", "r.h5", "-o"],
}
INPUTS = ("in.keras", "in.bed", "in.fa", "in.fa.fai", "in.vcf", "in.npy", "in.py", "in.png")
NAMED = ("in.keras", "in.bed", "in.fa", "in.fa.fai", "in.npy", "in.py", "in.png", "r.h5")
OTHERS = ("old.h5", "old.png", "old.html", "old.vcf.gz", "old.json", "r.h5")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with inputs of all kinds, a result that names them, and files that have nothing to do with it."""
    monkeypatch.chdir(tmp_path)
    for name, source in {"in.keras": "demo.keras", "in.bed": "demo.bed", "in.fa": "demo.fa"}.items():
        shutil.copy(EXAMPLES / source, name)
    chrom = Path("in.fa").read_text().split()[0][1:]
    Path("in.vcf").write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID={chrom}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    Path("in.fa.fai").write_bytes(b"as it is")
    for name in ("in.npy", "in.py", "in.png", *OTHERS):
        Path(name).write_text(f"the content of {name}")
    Path("r.h5").unlink()
    named = {"inputs": ["x=in.npy"], "target_names": ["count=in.png"], "custom_objects": ["in.py"], "window": None}
    paths = {"model_path": "in.keras", "bed_path": "in.bed", "fasta_path": "in.fa", "folder": str(tmp_path)}
    shard = {"shard_index": 0, "num_shards": 1, "row_start": 0, "row_stop": 10, "n_total": 10}
    write_result(tmp_path / "r.h5", **paths, **shard, config=json.dumps(named))
    return tmp_path


def fastism(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(call: list[object], folder: Path) -> str:
    """The one line of a call that must change nothing."""
    before = contents(folder)
    result = fastism(*call)
    assert result.exit_code == 2, (call, result.output, result.exception)
    assert contents(folder) == before, call
    return result.stderr


def test_every_option_is_known_to_read_or_to_write():
    for command in COMMANDS:
        for parameter in main.get_command(click.Context(main), command).params:
            is_text = not (getattr(parameter, "is_flag", False) or isinstance(parameter.type, click.Choice))
            if is_text and not isinstance(parameter.type, (click.types.IntParamType, click.types.FloatParamType)):
                places = [(command, parameter.name) in WRITES, parameter.name in READS, parameter.name in NO_FILE]
                assert sum(places) == 1, f"{command} {parameter.name}"
    assert CALLS.keys() == WRITES


@pytest.mark.one_in(48)
@pytest.mark.parametrize("output", sorted(WRITES), ids=" ".join)
def test_nothing_that_exists_is_changed_unasked(here, output):
    for name in (*INPUTS, *OTHERS):
        refused([*CALLS[output], name], here)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("output", sorted(WRITES), ids=" ".join)
def test_no_input_is_ever_replaced(here, output):
    call = (
        [*CALLS[output], "--overwrite"]
        if output[1] != "summary"
        else [*CALLS[output[0], "output"][:-1], "-o", "new.h5", "--overwrite", "--summary"]
    )
    call = [x for x in call if x != "-o"] + ["-o"] if call[-1] == "--overwrite" else call
    read = {"run": INPUTS[:4], "pairs": INPUTS[:4], "variants": ("in.keras", "in.fa", "in.vcf")}.get(output[0], NAMED)
    (here / "sub").mkdir()
    for i, name in enumerate(read):
        ending = {"plot": ".png", "variants": ".vcf"}.get(output[0], ".x")
        soft, hard = here / f"sub/soft{i}{ending}", here / f"sub/hard{i}{ending}"
        soft.symlink_to(here / name)
        os.link(here / name, hard)
        assert re.search("is (an input of|one of the shards)", refused([*call, soft], here))
        refused([*call, hard], here)
        refused([*call, name], here)
        refused([*call, f"sub/../{name}"], here)


def test_files_that_are_not_named_on_the_command_line_are_safe_too(here):
    """The index of a VCF, the table of variants, the narrowPeak, unfinished rows."""
    for call, name in [
        (["export", "r.h5", "-t", "vcf", "--targets", "count", "-o", "a.vcf.gz"], "a.vcf.gz.tbi"),
        (["export", "r.h5", "-t", "tsv", "-o", "a.tsv"], "a.regions.narrowPeak"),
        ([*VARIANTS, "-o", "a.vcf"], "a.tsv"),
        ([*RUN, "-o", "a.h5"], "a.h5.partial"),
        (["merge", "r.h5", "-o", "a.h5"], "a.h5.partial"),
        ([*RUN, "-o", "a.h5", "--summary", "a.h5"], "b"),
        ([*RUN, "-o", "a.h5", "--summary", "../" + here.name + "/a.h5"], "b"),
        ([*RUN, "-o", "a.h5", "--summary", "a.h5.partial"], "b"),
    ]:
        Path(name).write_text("precious")
        refused(call, here)
        Path(name).unlink()


def test_inputs_of_a_result_are_found_from_any_folder(here, monkeypatch):
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    for name in NAMED:
        call = ["export", "../r.h5", "-t", "tsv", "--overwrite", "-o", f"../{name}"]
        assert f"../{name} is an input of" in refused(call, here)


@pytest.mark.parametrize("sum_of", [content_sha256, file_sha256])
@pytest.mark.parametrize("largest", [1 << 28, 3])
def test_an_input_that_moved_with_its_result_is_known_by_its_content(here, monkeypatch, sum_of, largest):
    """A large FASTA is known by samples, a large model or BED by all of its bytes."""
    monkeypatch.setattr(input_files, "MAX_READ_WHOLE", largest)
    monkeypatch.setattr(input_files, "SAMPLE_BYTES", 2)
    (here / "moved").mkdir()
    shutil.copy("in.bed", "moved/in.bed")
    sha256 = sum_of("in.bed")
    write_result(here / "moved/r.h5", bed_path="data/in.bed", bed_sha256=sha256, folder="/gone")
    message = refused(["export", "moved/r.h5", "-t", "tsv", "--overwrite", "-o", "moved/in.bed"], here)
    assert "it has the content of data/in.bed" in message


def test_the_shards_of_an_index_are_its_inputs(here):
    for name in ("one.h5", "two.h5"):
        shard = {"shard_index": int(name == "two.h5"), "num_shards": 2, "n_total": 20, "config_sha256": "x"}
        first = 10 * shard["shard_index"]
        write_result(here / name, **shard, row_start=first, row_stop=first + 10, bed_path="in.bed", folder=str(here))
    merge_shards(["one.h5", "two.h5"], "whole.h5", virtual=True)
    refused(["export", "whole.h5", "-t", "tsv", "--overwrite", "-o", "two.h5"], here)
    refused(["merge", "one.h5", "two.h5", "--overwrite", "-o", "in.bed"], here)


def test_the_usual_way_has_a_name_of_its_own_for_its_regions(tmp_path, monkeypatch):
    """run --bed tss.narrowPeak, then export: the peaks of the user are not those of the export."""
    monkeypatch.chdir(tmp_path)
    Path("tss.narrowPeak").write_text("precious")
    write_result(tmp_path / "tss.ism.h5", bed_path="tss.narrowPeak")
    for kind in ("tsv", "bedgraph"):
        assert fastism("export", "tss.ism.h5", "-t", kind, "--targets", "count").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "tss.narrowPeak", "tss.ism.h5", "tss.tsv", "tss.bedgraph", "tss.regions.narrowPeak"
    }  # fmt: skip
    assert Path("tss.narrowPeak").read_text() == "precious"


def test_overwrite_replaces_what_is_no_input(here):
    assert fastism("export", "r.h5", "-t", "tsv", "-o", "old.json", "--overwrite").exit_code == 0
    assert Path("old.json").read_text().startswith("chrom\tpos")
    (here / "link.tsv").symlink_to(here / "old.html")
    assert fastism("export", "r.h5", "-t", "tsv", "-o", "link.tsv", "--overwrite").exit_code == 0
    assert Path("old.html").read_text() == "the content of old.html"  # a link is replaced, not what it leads to
    (here / "to_nothing.tsv").symlink_to(here / "gone")
    assert "a link to" in refused(["export", "r.h5", "-t", "tsv", "-o", "to_nothing.tsv"], here)


# --- files that come into being meanwhile ----------------------------------------------------------------------------


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_commands_with_one_output_the_first_keeps_it(tmp_path, monkeypatch, has_links):
    """All files of a command get their names, or none."""
    monkeypatch.chdir(tmp_path)
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *names, **options: (_ for _ in ()).throw(PermissionError(1, "no")))
    commands = [("ab", False, False), ("abc", False, True), ("0b", False, True), ("bc", True, False)]
    for names, overwrite, is_refused in commands:
        before = contents(tmp_path)
        with staged("b", overwrite=overwrite) as staging:
            for name in names:
                Path(staging.path(name)).write_text(f"{name} of {names}")
            if is_refused:
                with pytest.raises(
                    OutputError, match=r"has come into being since this command began\. Replace it with"
                ):
                    staging.move()
            else:
                staging.move()
        assert not is_refused or contents(tmp_path) == before
    assert {name: Path(name).read_text() for name in os.listdir()} == {"a": "a of ab", "b": "b of bc", "c": "c of bc"}


@pytest.mark.parametrize("text", ["equal", "other"])
def test_a_file_of_several_commands_may_come_into_being(tmp_path, monkeypatch, text):
    """Two exports at once have the same narrowPeak beside them."""
    monkeypatch.chdir(tmp_path)
    with staged("a.tsv", overwrite=False) as staging:
        for name in ("a.tsv", "a.regions.narrowPeak"):
            Path(staging.path(name)).write_text("equal")
        assert not staging.share("a.regions.narrowPeak")
        Path("a.regions.narrowPeak").write_text(text)
        if text == "equal":
            assert staging.move() == ["a.regions.narrowPeak", "a.tsv"]
        else:
            with pytest.raises(OutputError, match="narrowPeak has come into being"):
                staging.move()
    assert Path("a.regions.narrowPeak").read_text() == text and Path("a.tsv").exists() == (text == "equal")


@pytest.mark.parametrize("call", ["top", "export", "plot", "report"])
def test_every_command_moves_its_files_so(here, monkeypatch, call):
    output = {"plot": "new.png", "report": "new.html"}.get(call, "new.tsv")
    monkeypatch.setattr(outputs, "_check_file", lambda name, **options: None)
    Path(output).write_text("of another command")
    arguments = {"export": ["r.h5", "-t", "tsv", "-o"]}.get(call, CALLS[call, "output"][1:])
    assert "new." in refused([call, *arguments, output], here)


def test_a_result_that_came_into_being_is_not_replaced(here, monkeypatch):
    create = writer.ResultWriter._create

    def created(self) -> None:
        create(self)
        Path(self.path).write_text("of another command")

    monkeypatch.setattr(writer.ResultWriter, "_create", created)
    with pytest.raises(OutputError, match=r"new\.h5 has come into being"):
        write_result(here / "new.h5")
    assert Path("new.h5").read_text() == "of another command"


def test_an_index_of_shards_leaves_the_rows_of_another_process(here, monkeypatch):
    """That began between the check and the writing."""
    monkeypatch.setattr(outputs, "check_partial", lambda partial, **options: None)
    with open_disk("new.h5.partial"), pytest.raises(OutputError, match="is being written by another process"):
        merge_shards(["r.h5"], "new.h5", virtual=True)
    assert Path("new.h5.partial").exists()


@pytest.mark.parametrize("old", [".tbi", ".csi"])
def test_no_index_of_an_older_vcf_stays(here, old):
    """Programs take a .csi before a .tbi."""
    Path(f"new.vcf.gz{old}").write_text("of an older VCF")
    call = ["export", "r.h5", "-t", "vcf", "--targets", "count", "-o", "new.vcf.gz"]
    assert f"new.vcf.gz{old} exists" in refused(call, here)
    assert fastism(*call, "--overwrite").exit_code == 0
    assert [path.name for path in here.glob("new.vcf.gz*i")] == ["new.vcf.gz.tbi"]
    assert Path("new.vcf.gz.tbi").read_bytes() != b"of an older VCF"


# --- the summary of a run --------------------------------------------------------------------------------------------


def summary_of(output: str) -> RunSummary:
    return RunSummary(output, 3, 90, 1.0, {})


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("text", "options", "is_replaced"),
    [
        ("ours", {}, False),
        ("ours", {"overwrite": True}, True),
        ("ours", {"resume": True}, True),
        ("of another run", {"resume": True}, False),
        ("no summary", {"resume": True}, False),
        ("no summary", {"overwrite": True}, True),
    ],
)
def test_a_summary_that_exists(here, text, options, is_replaced):
    Path("out.h5").write_text("a result")
    if text == "no summary":
        Path("s.json").write_text('{"output": "out.h5"}')
    else:
        write_summary("s.json", summary_of("out.h5" if text == "ours" else "old.h5"), overwrite=False)
    output = "out.h5" if options else "new.h5"
    request = RunRequest.of("in.keras", "in.bed", "in.fa", output, RunOptions(summary="s.json", **options))
    if is_replaced:
        check_outputs(request)
    else:
        with pytest.raises(
            OutputError, match=r"s\.json exists\. Replace it with overwrite=True, or choose another summary"
        ):
            check_outputs(request)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ["-", "/dev/null", "/dev/stdout", "/dev/fd/1"])
def test_a_summary_goes_into_streams(here, name):
    assert is_stream(name)
    check_outputs(RunRequest.of("in.keras", "in.bed", "in.fa", "out.h5", RunOptions(summary=name)))


def test_a_summary_goes_down_a_pipe(here):
    Path("out.h5").touch()
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_outputs(RunRequest.of("in.keras", "in.bed", "in.fa", "new.h5", RunOptions(summary="pipe")))
    write_summary("pipe", summary_of("out.h5"), overwrite=False)
    assert json.loads(os.read(reader, 1 << 16))["regions"] == 3
    os.close(reader)
    assert Path("pipe").is_fifo()


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ["", ".", "/", "gone/s.json", "-/x"])
def test_what_is_no_file_is_refused(here, name):
    with pytest.raises(OutputError):
        check_outputs(RunRequest.of("in.keras", "in.bed", "in.fa", "new.h5", RunOptions(summary=name)))


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null", "/dev/fd/1"])
def test_a_result_goes_into_no_stream(here, name):
    with pytest.raises(OutputError):
        check_new_file(name, [], overwrite=True)


# --- stdout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bedgraph", "tsv", "vcf"])
def test_text_goes_to_stdout(tmp_path, capfdbinary, kind):
    source = write_result(tmp_path / "r.h5")
    export_scores(str(source), str(tmp_path / f"a.{kind}"), kind=kind, targets=["count"])
    before = contents(tmp_path)
    capfdbinary.readouterr()
    summary = export_scores(str(source), "-", kind=kind, targets=["count"])
    assert capfdbinary.readouterr().out == (tmp_path / f"a.{kind}").read_bytes()
    assert contents(tmp_path) == before and summary.files == ("-",)
    assert "no narrowPeak of the regions beside a stream: name a file to get one" in summary.lines()


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", ["modisco-npz", "modisco-h5", "chrombpnet-h5", "basenji-h5", "bigwig", "parquet"])
def test_what_is_no_text_is_refused(here, kind):
    message = f"{kind} cannot be written to stdout or a pipe; bedgraph, tsv, vcf can"
    assert message in refused(["export", "r.h5", "-t", kind, "--targets", "count", "-o", "-"], here)


def test_one_stream_holds_one_target(here):
    assert "bedgraph has a file for each of the 4 targets" in refused(
        ["export", "r.h5", "-t", "bedgraph", "-o", "-"], here
    )


def test_a_full_disk_behind_stdout_is_one_line(here):
    result = fastism("export", "r.h5", "-t", "tsv", "-o", "/dev/full")
    assert result.exit_code == 1 and "/dev/full cannot be written: No space left on device" in result.stderr


def test_a_reader_that_goes_away_is_no_error(here):
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("pipe", os.O_WRONLY)
    os.close(reader)
    result = fastism("export", "r.h5", "-t", "tsv", "-o", f"/dev/fd/{writer}")
    os.close(writer)
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_page_goes_to_stdout(here, capfdbinary):
    assert fastism("report", "r.h5", "-o", "/dev/fd/1").exit_code == 0
    assert capfdbinary.readouterr().out.startswith(b"<!doctype html>")
