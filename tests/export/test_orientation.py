"""What comes after a run sees every base of the + strand where it is, whatever the strand, window and alphabet."""

import h5py
import numpy as np
import pytest

from fastism_cli.errors import UsageError
from fastism_cli.export.export_scores import export_scores
from fastism_cli.results import block_reader
from fastism_cli.results.schema import Status
from fastism_cli.results.scores import open_scores
from tests.helpers.result_files import (
    HEADS,
    LENGTH,
    LETTERS,
    RECORDS,
    base,
    edited,
    true_delta,
    true_importance,
    window_of,
    write_result,
)

OK = [i for i, record in enumerate(RECORDS) if record.status == Status.OK]


@pytest.mark.one_in(48)
@pytest.mark.parametrize("alphabet", ["ACGT", "TGAC"])
@pytest.mark.parametrize("window", [LENGTH, 7, 8, "-3:6", "2:9", "-9:-8"])
def test_every_score_is_at_its_base(tmp_path, window, alphabet):
    path = write_result(tmp_path / "r.h5", window=window, alphabet=alphabet)
    with open_scores(path) as scores:
        assert scores.window == len(window_of(0, window)) and scores.letters == LETTERS
        blocks = [block.on_genome() for block in scores.blocks()]
    assert np.concatenate([block.rows for block in blocks]).tolist() == OK
    for block in blocks:
        importance, hypothetical = block.importance(), block.hypothetical()
        for i, row in enumerate(block.rows):
            assert block.start[i] == window_of(row, window).start and block.seq.shape[1] == len(window_of(row, window))
            for column, position in enumerate(window_of(row, window)):
                letter = base(RECORDS[row].chrom, position)
                assert "ACGTN"[block.seq[i, column]] == letter
                for track in range(4):
                    deltas = [true_delta(row, position, alt, track) for alt in LETTERS]
                    expected = np.full(4, np.nan) if letter == "N" else np.array(deltas)
                    np.testing.assert_array_equal(block.delta[i, track, column], expected.astype("float32"))
                    centred = expected - expected.mean()
                    np.testing.assert_allclose(hypothetical[i, track, column], centred, atol=1e-6)
                    np.testing.assert_allclose(
                        importance[i, track, column], true_importance(row, position, track), atol=1e-6
                    )


def test_the_strand_of_a_record_is_not_that_of_its_scores(tmp_path):
    path, as_seen = write_result(tmp_path / "r.h5"), write_result(tmp_path / "as_seen.h5")
    strands = np.resize(["-", "+", "."], len(RECORDS))
    with edited(path) as file:
        file["regions/strand"][:] = strands.astype("S1")
    with open_scores(path) as scores, open_scores(as_seen) as expected:
        (block,), (other,) = scores.blocks(), expected.blocks()
        np.testing.assert_array_equal(block.on_genome().delta, other.on_genome().delta)
        assert scores.regions["strand"].tolist() == strands.tolist()
        shown = scores.region(2, scores.tracks[3])
        assert (shown.strand, shown.model_strand) == (".", "-")
    export_scores(str(path), str(tmp_path / "out.h5"), kind="basenji-h5")
    within = [row for row in OK if RECORDS[row].name not in ("before_start", "past_end")]
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["strand"].asstr()[:].tolist() == [RECORDS[row].strand for row in within]
    (peaks,) = tmp_path.glob("*.narrowPeak")
    assert [line.split("\t")[5] for line in peaks.read_text().splitlines()] == strands[within].tolist()


def test_a_file_of_version_1_has_one_strand_that_the_model_saw(tmp_path):
    path, as_now = write_result(tmp_path / "r.h5"), write_result(tmp_path / "now.h5")
    with edited(path) as file:
        del file["regions/model_strand"]
        file.attrs["format_version"] = 1
    with open_scores(path) as old, open_scores(as_now) as new:
        assert old.regions["model_strand"].tolist() == new.regions["strand"].tolist()
        (block,), (expected,) = old.blocks(), new.blocks()
        assert block.reverse.tolist() == expected.reverse.tolist() and block.reverse.any()


def test_nothing_depends_on_how_many_rows_are_read_at_once(tmp_path, monkeypatch):
    path = write_result(tmp_path / "r.h5")
    with open_scores(path) as scores:
        whole = list(scores.blocks())
        monkeypatch.setattr(block_reader._BlockReader, "rows_at_once", 3)
        parts = list(scores.blocks())
    assert (len(whole), len(parts)) == (1, 4)
    for name in ("rows", "reverse", "input_start", "seq", "delta"):
        np.testing.assert_array_equal(
            getattr(whole[0], name), np.concatenate([getattr(part, name) for part in parts]), err_msg=name
        )


def test_tracks_are_the_targets_of_all_heads(tmp_path):
    with open_scores(write_result(tmp_path / "r.h5")) as scores:
        labels = [track.label for track in scores.tracks]
        assert labels == ["profile/sum/a", "profile/sum/b", "profile/sum/c", "count"]
        assert [track.unit for track in scores.tracks_of("profile/sum")] == [0, 1, 2]
        chosen = [scores.tracks[i] for i in (3, 2, 0)]
        (block,) = scores.blocks(np.array([2, 5]), chosen)
        (whole,) = scores.blocks(np.array([2, 5]))
        np.testing.assert_array_equal(block.delta, whole.delta[:, [3, 2, 0]])
        np.testing.assert_array_equal(scores.predictions(block.rows, chosen), [[-2, 2.5, 2], [-5, 5.5, 5]])


def test_rows_are_found_by_status_name_and_place(tmp_path):
    with open_scores(write_result(tmp_path / "r.h5")) as scores:
        assert scores.rows_with(Status.MISSING_CONTIG, Status.TOO_MANY_N).tolist() == [4, 8]
        assert scores.rows_named("minus").tolist() == [2]
        assert scores.rows_over("chrA", 37, 61).tolist() == [2, 9]  # [18, 38) and [60, 80), the ends left out
        assert scores.rows_over("chrA", 38, 60).tolist() == []


def test_a_head_that_kept_its_positions_has_a_track_for_each(tmp_path):
    path = write_result(tmp_path / "r.h5")
    with edited(path) as file:  # 3 targets -> 1 target at 3 positions
        for group in ("ref", "delta"):
            values = file[f"{group}/profile_sum"][:]
            del file[f"{group}/profile_sum"]
            file[f"{group}/profile_sum"] = values[:, :, None]
        del file["outputs/profile_sum/names"]
        file["outputs/profile_sum/names"] = np.array(["x"], dtype=object)
    with open_scores(path) as scores:
        assert [track.name for track in scores.tracks] == ["x@0", "x@1", "x@2", "0"]
        (block,) = scores.blocks(np.array([1]), [scores.tracks[2]])
        assert block.delta[0, 0, 3, 1] == np.float32(true_delta(1, 13, "C", 2))
        np.testing.assert_array_equal(scores.predictions(block.rows, [scores.tracks[2]]), [[1.5]])


def test_repeated_target_names_are_numbered(tmp_path):
    path = write_result(tmp_path / "r.h5")
    with edited(path) as file:
        file["outputs/profile_sum/names"][:] = np.array(["x", "y", "x"], dtype=object)
    with open_scores(path) as scores:
        assert [track.name for track in scores.tracks_of(HEADS[0].name)] == ["x#0", "y#1", "x#2"]


def test_a_file_without_bases_is_refused(tmp_path):
    path = write_result(tmp_path / "r.h5")
    with edited(path) as file:
        file.attrs["alphabet"] = "ACDE"
    with open_scores(path) as scores, pytest.raises(UsageError, match="with the alphabet ACDE; only ACGT lies on a"):
        scores.require_bases()


@pytest.mark.parametrize("dataset", ["seq", "delta/profile_sum"])
def test_a_damaged_file_is_told(tmp_path, dataset):
    path = write_result(tmp_path / "r.h5")
    with h5py.File(path) as file:
        chunk = file[dataset].id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\x55" * chunk.size)
    message = rf"r\.h5 is damaged: the numbers in /{dataset} are not as written\. Copy it again"
    with open_scores(path) as scores, pytest.raises(UsageError, match=message):
        list(scores.blocks())


def test_a_result_whose_run_is_not_finished_is_told(tmp_path):
    write_result(tmp_path / "r.h5").rename(tmp_path / "r.h5.partial")
    with pytest.raises(UsageError, match=r"r\.h5 does not exist, but .*r\.h5\.partial does: its run is not finished"):
        open_scores(tmp_path / "r.h5")
