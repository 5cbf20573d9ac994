"""A result file is read as a result in memory is: importance, frames and pictures by target."""

import numpy as np
import pytest

from fastism_cli import open_scores
from fastism_cli.errors import UsageError
from fastism_cli.results.schema import Status
from tests.helpers import result_files as truth

OK = [row for row, record in enumerate(truth.RECORDS) if record.status == Status.OK]


@pytest.fixture
def scores(tmp_path):
    with open_scores(truth.write_result(tmp_path / "a.ism.h5")) as scores:
        yield scores


def test_heads_and_targets_are_listed(scores):
    assert list(scores.heads) == ["profile/sum", "count"]
    assert scores.targets == ("profile/sum/a", "profile/sum/b", "profile/sum/c", "count")
    assert "10 x 20 letters" in repr(scores) and "profile/sum (3), count (1)" in repr(scores)
    assert {head: scores.delta[head].shape for head in scores.heads} == {
        "profile/sum": (10, 3, truth.LENGTH, 4),
        "count": (10, 1, truth.LENGTH, 4),
    }


def test_importance_is_in_the_rows_and_columns_of_the_file(scores):
    found = scores.importance("profile/sum/b")
    assert found.shape == scores.shape
    for row in range(scores.n_rows):
        seen = [position for position, _ in truth.bases_seen(row)]
        expected = [truth.true_importance(row, position, 1) for position in seen] if row in OK else np.nan
        np.testing.assert_allclose(found[row], expected, atol=1e-6)
    np.testing.assert_array_equal(scores.importance("profile/sum=1", rows=[5, 0]), found[[5, 0]])


def test_a_frame_is_on_the_plus_strand(scores):
    frame = scores.to_frame(["profile/sum/a", "count"])
    assert list(frame) == ["chrom", "pos", "ref", "alt", "target", "delta", "reference", "region"]
    assert frame.equals(scores.to_frame(["profile/sum/a", "count"], rows=OK))
    assert len(frame) == 2 * sum(len(scores.to_frame("count", rows=row)) for row in OK) > 0
    for row in OK:
        for line in scores.to_frame("count", rows=row).itertuples():
            assert truth.base(line.chrom, line.pos - 1) == line.ref != line.alt
            assert np.float32(line.delta) == np.float32(truth.true_delta(row, line.pos - 1, line.alt, 3))
            assert line.reference == -row


def test_a_frame_of_rows_without_scores_is_empty(scores):
    (failed, *_) = [row for row in range(scores.n_rows) if row not in OK]
    assert len(scores.to_frame(rows=failed)) == 0
    with pytest.raises(UsageError, match=f"row {failed} of .* has no scores"):
        scores.plot("count", row=failed)


def test_a_picture(scores):
    figure = scores.plot(["count", "profile/sum/b"], row=OK[0])
    words = " ".join(text.get_text() for text in figure.texts)
    assert "count: prediction" in words and "profile/sum/b: prediction" in words


def test_labelled_arrays(scores):
    pytest.importorskip("xarray")
    found = scores.to_xarray("count", rows=OK)
    assert found.delta.sizes == {"row": len(OK), "target": 1, "position": truth.LENGTH, "letter": 4}
    np.testing.assert_array_equal(found.importance.sel(target="count"), scores.importance("count", rows=OK))
    assert found["name"].values.tolist() == [truth.RECORDS[row].name for row in OK]
