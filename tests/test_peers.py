"""The comparison with other programs, with plain Keras in their place; and the page on how their calls are said."""

import re
from contextlib import closing
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import fastism_uses
from benchmarks.contestants import Peer
from benchmarks.fastism_uses import USES
from benchmarks.side_by_side import LEAST, Comparison, compare_use, compared, report
from fastism_cli.model.precision import with_dtype
from tests.helpers.sequences import random_one_hot
from tests.test_readme import page

PAGE = "docs/coming-from.md"
CHEAP = "zeros at every position"


def arrays_of(path: str) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def by_keras(request: dict) -> dict:
    """What fastISM would answer to a request: plain Keras in float64."""
    use = USES[request["use"]]
    model, inputs = use.build(keras), arrays_of(request["inputs"])
    model.set_weights(arrays_of(request["weights"]))
    answers = {}
    for i, call in enumerate(use.calls):
        for j, predictions in enumerate(replaced(model, inputs, use, call)):
            answers[f"{i}/{j}"] = predictions
    np.savez(request["outputs"], **answers)
    return {"seconds": 1.0}


def replaced(model: keras.Model, inputs: list[np.ndarray], use: fastism_uses.Use, call) -> list[np.ndarray]:
    """Predictions with the content in each range, (n, ranges, *shape) for each output."""
    length, (n, *_) = inputs[use.sequence].shape[1], inputs[0].shape
    ranges = use.ranges or [(i, i + 1) for i in range(length)]
    batch = [np.repeat(x[:, None], len(ranges), axis=1) for x in inputs]
    for k, (start, end) in enumerate(ranges):
        batch[use.sequence][:, k, start:end] = call
    given = [np.float64(x.reshape(-1, *x.shape[2:])) for x in batch]
    outputs = keras.tree.flatten(with_dtype(model, "float64")(given if len(given) > 1 else given[0]))
    return [np.asarray(y).reshape(n, len(ranges), *y.shape[1:]) for y in outputs]


def test_a_program_that_does_not_answer_is_started_again(tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    with closing(Peer("yuzu", str(silent), patience=0.2)) as peer:
        first = peer.process
        assert peer.ask({"model": "basset"}) == {"failed": "no answer within 0.2 s"}
        assert first.poll() is not None and peer.process.poll() is None


# --- the uses of fastISM ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.one_in(24)) for name in USES])
def test_a_use_equals_plain_keras(name, tmp_path):
    found = compare_use(name, by_keras, tmp_path)
    assert found.equal, found


def test_there_are_uses_of_every_kind():
    assert len(USES) >= 12
    contents = {np.shape(call) for use in USES.values() for call in use.calls}
    assert {(), (4,), (3, 4), (10, 4)} <= contents
    assert {0, 1, 2} == {use.sequence for use in USES.values()}
    assert {len(use.ranges) for use in USES.values() if use.ranges} >= {1, 4, 150}


def test_all_equal(capsys):
    report((CHEAP, "one range, zeros"), (), lambda program: by_keras)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rsplit(": ", 1)[1] for line in lines[:-1]] == ["equal", "equal"]
    assert lines[-1] == "fastISM 0.5.1: 2 of 2 equal"


def test_a_wrong_answer_is_seen(capsys):
    def slightly_wrong(request: dict) -> dict:
        answer = by_keras(request)
        with np.load(request["outputs"]) as found:
            outputs = {name: found[name].copy() for name in found.files}
        outputs["0/0"][1, 7] *= 1 + 1e-5
        np.savez(request["outputs"], **outputs)
        return answer

    with pytest.raises(SystemExit) as ended:
        report((CHEAP,), (), lambda program: slightly_wrong)
    assert ended.value.code == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith(": NOT EQUAL") and last == "fastISM 0.5.1: 0 of 1 equal"


def test_a_program_that_fails_is_not_equal(capsys):
    with pytest.raises(SystemExit):
        report((CHEAP,), (), lambda program: lambda request: {"failed": "ValueError: no"})
    assert "failed: ValueError: no" in capsys.readouterr().out


def test_answers_of_another_shape_are_not_equal():
    x = np.ones((2, 3))
    assert not compared([x], [x[:1]], [x * 0]).equal
    assert "shapes" in str(compared([x], [x[:1]], [x * 0]))


@pytest.mark.parametrize(
    ("difference", "change", "equal"), [(0, LEAST, True), (1, LEAST, True), (1.01, LEAST, False), (0, LEAST - 1, False)]
)
def test_what_is_equal(difference, change, equal):
    assert Comparison(9, difference, 1.0, change).equal is equal


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def said() -> str:
    return page(PAGE)


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_options_of_the_other_programs_are_on_the_page(said):
    for title, options in {
        "fastISM": (
            "change_ranges replace_with seq_input_idx early_stop_layers test_correctness NaiveISM "
            "SEE_THROUGH_LAYERS AGGREGATE_LAYERS STOP_LAYERS POOLING_LAYERS"
        ),
        "basenji": "-f -l -o --plots -p --rc --shifts --stats -t -u -d sum scd center",
        "tangermeme": (
            "start end target hypothetical raw_outputs args func fast batch_size dtype device verbose random_state n"
        ),
        "CREsted": (
            "input target_idx model method window_size n_shuffles genome transpose batch_size output_dir seed "
            "simplex_correction verbose"
        ),
        "chrombpnet": "-m -r -g -c -op -pc -os -d contribs_bw footprints snp_score pred_bw modisco_motifs",
    }.items():
        words = set(re.findall(r"[\w-]+", section(said, title)))
        assert [option for option in options.split() if option not in words] == [], title


def test_the_programs_of_the_page_run(said, rng):
    model, one_hot = fastism_uses.chain(keras), random_one_hot(rng, 2, 40)
    known = {"model": model, "one_hot": one_hot}
    blocks = re.findall(r"^```python\n(.*?)^```$", said, flags=re.DOTALL | re.MULTILINE)
    exec(blocks[0], known)
    (truth,) = replaced(model, [one_hot], USES[CHEAP], 0)
    np.testing.assert_allclose(known["predictions"], truth, atol=1e-6 * np.abs(truth).max())
    for block in blocks[1:]:
        exec(block, known)
    by_base, delta = known["by_base"], known["delta"]
    assert by_base.shape == (2, 2, 40)
    for base, windows in {0: [0], 3: range(4), 20: range(14, 21), 39: [33]}.items():
        np.testing.assert_allclose(by_base[..., base], delta[..., list(windows)].mean(-1), rtol=1e-4, atol=1e-6)


def test_the_page_is_found():
    assert all(Path(PAGE).name in page(name) for name in ("mkdocs.yml", "README.md", "docs/index.md"))
