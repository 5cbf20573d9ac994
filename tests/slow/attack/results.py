"""Results, alone, merged, virtual and unfinished, against the numbers that were written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from fastism_cli.export.export_scores import export_scores
from fastism_cli.results import schema
from fastism_cli.results.contents import contents_of
from fastism_cli.results.intact import seal
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.layout import HeadLayout, Layout, MeanOf, ModelFile, PairsLayout, ReplacedBlocks
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.scores import open_scores
from fastism_cli.results.writer import ResultWriter
from tests.slow.attack.genomes import UNDAMAGED, still_read
from tests.slow.attack.mutations import BYTES, edit_hdf5, flip_bit, mutated, mutated_json, truncate, zero_all
from tests.slow.attack.outcome import Kind, Outcome, read

N_ROWS, LENGTH, STEP = 12, 16, 4  # a checkpoint every STEP rows
HEADS = (HeadLayout("profile", (3,), ("a", "b", "c")), HeadLayout("count", (1,)))
SIZES = {"chr1": 5000, "chr2": 700}
NAME = "result.h5"
NUMBERS = (schema.REF, schema.DELTA, schema.DELTA_SD, schema.PAIRS)
TEXTS = ("config", "averaged", "blocks", "pairs", "verify")  # attributes that are JSON
WIDER = {"format_version": schema.WIDER_VERSION}
MEAN = MeanOf((ModelFile("a.keras", "0"), ModelFile("b.keras", "1")), True, ("profile=0:1",), (-1, 0), "scores", True)
# What a file holds besides single letters: of its layout, and its attributes.
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "letters": ({}, {}),
    "blocks": ({"blocks": ReplacedBlocks(2, 3, 4, 4, 2, "contents.npy")}, WIDER),
    "pairs": ({"pairs": PairsLayout(3, 5, 2)}, WIDER),
    "means": ({"has_spread": True}, WIDER | {"averaged": MEAN.to_json()}),
}


# --- numbers ----------------------------------------------------------------------------------------------------------


def columns(rows: np.ndarray) -> dict[str, Any]:
    """Every column of /regions, for numbered rows."""
    start = 100 + 37 * rows
    known = {
        "chrom": ["chr1" if row % 3 else "chr2" for row in rows],
        "start": start,
        "end": start + LENGTH,
        "input_start": start,
        "name": [f"peak_{row}" for row in rows],
        "bed_row": rows,
        "status": np.ones(len(rows), "uint8"),
        "n_padded": np.zeros(len(rows), "int32"),
    }
    strands = {name: ["-" if row % 2 else "+" for row in rows] for name in schema.REGION_COLUMNS if "strand" in name}
    return {name: (known | strands)[name] for name in schema.REGION_COLUMNS}


def write_rows(writer: ResultWriter, first: int, rows: np.ndarray, seed: int) -> None:
    """Rows whose numbers follow from their own number and the seed."""
    draws = [np.random.default_rng((seed, row)) for row in rows]
    layout = writer.layout

    def drawn(shape_of: Callable[[HeadLayout], tuple[int, ...]]) -> dict[str, np.ndarray]:
        return {h.name: np.stack([d.normal(size=shape_of(h)[1:]).astype("f4") for d in draws]) for h in HEADS}

    writer.write_rows(
        first,
        regions=columns(rows),
        seq=np.stack([draw.integers(0, 4, LENGTH).astype("uint8") for draw in draws]),
        reference=drawn(layout.ref_shape),
        delta=drawn(layout.delta_shape),
        spread=drawn(layout.delta_shape) if layout.has_spread else None,
        pairs=drawn(layout.pairs_shape) if layout.pairs else None,
    )


def attributes(first: int, stop: int, shard: int, shards: int, seed: int) -> dict[str, Any]:
    """What a run says of itself, as far as readers need it."""
    rows = {"n_total": N_ROWS, "row_start": first, "row_stop": stop, "shard_index": shard, "num_shards": shards}
    sums = {name: f"{seed:064x}" for name in ("config_sha256", "model_sha256", "bed_sha256", "fasta_sha256")}
    return {**rows, **sums, "config": '{"window": 10}', "stranded": True, "input_length": LENGTH, "engine": "fast"}


def write(
    path: Path,
    compression: str,
    *,
    shard: int = 0,
    shards: int = 1,
    seed: int = 0,
    stop_after: int = N_ROWS,
    resume: bool = False,
    form: str = "letters",
) -> None:
    """Write a result, or go on with one; stop after some rows as an interrupt does."""
    part = N_ROWS // shards
    first = shard * part
    layout = Layout(part, LENGTH, HEADS, compression=compression, **FORMS[form][0])
    said = attributes(first, first + part, shard, shards, seed) | FORMS[form][1]
    options = {"attributes": said, "genome_sizes": SIZES}
    with (
        suppress(KeyboardInterrupt),
        ResultWriter(path, layout, **options, resume=resume, checkpoint_seconds=0) as writer,
    ):
        for row in range(writer.rows_done, part, STEP):
            if row >= stop_after:
                raise KeyboardInterrupt
            write_rows(writer, row, np.arange(row, min(row + STEP, part)) + first, seed)
            writer.checkpoint_if_due()


def numbers(path: Path, folder: Path) -> dict[str, Any]:
    """All that readers take from a result: arrays, contents as `fastism info` has them, and an exported table."""
    with open_scores(path) as scores:
        found: dict[str, Any] = {
            "letters": scores.letters,
            "window": scores.window,
            "sizes": scores.file.genome_sizes,
            "heads": scores.file.heads,
            **{f"regions/{name}": scores.regions[name] for name in schema.REGION_COLUMNS},
        }
        for head in scores.file.heads:
            found[f"ref/{head.name}"] = scores.predictions(np.arange(scores.n_rows), scores.tracks_of(head.name))
        for i, block in enumerate(scores.blocks(np.arange(scores.n_rows))):
            found |= {f"seq/{i}": block.seq, f"delta/{i}": block.delta}
            found |= {f"importance/{i}": block.on_genome().importance()}
    found["info"] = said_of(path)
    table = folder / "table.tsv"
    export_scores(str(path), str(table), kind="tsv", overwrite=True)
    return found | {"table": table.read_text()}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The names of what differs; "" if nothing does."""
    names = {*found, *expected}
    return ", ".join(sorted(name for name in names if not _same(found.get(name), expected.get(name))))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        has_nan = a.dtype.kind == b.dtype.kind == "f"
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=has_nan)
    return repr(a) == repr(b)


def said_of(path: Path) -> dict[str, Any]:
    """What `fastism info` says."""
    return {name: value for name, value in asdict(contents_of(str(path))).items() if name not in ("made", "path")}


# --- finished results -------------------------------------------------------------------------------------------------

Reader = Callable[[Path, Path], dict[str, Any]]  # of a result; it may write into the folder
Prepared = tuple[dict[str, bytes], dict[str, Any]]  # files by name; the numbers in them


def prepare(folder: Path, *, compression: str) -> Prepared:
    write(folder / NAME, compression)
    return contents(folder)


def prepare_merged(folder: Path, *, virtual: bool) -> Prepared:
    shards = [folder / f"shard{i}.h5" for i in range(2)]
    for i, path in enumerate(shards):
        write(path, "gzip" if virtual else "none", shard=i, shards=2)
    merge_shards([str(path) for path in shards], str(folder / NAME), virtual=virtual)
    if not virtual:
        for path in shards:
            path.unlink()
    return contents(folder)


def contents(folder: Path, reader: Reader = numbers) -> Prepared:
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    out = folder / "out"
    out.mkdir()
    return files, reader(folder / NAME, out)


def attempt(prepared: Prepared, draw: Random, folder: Path, reader: Reader = numbers) -> Outcome:
    """Damage one of the files of a result, by its bytes or by its parts, and read it as all commands do."""
    files, expected = prepared
    put(files, folder)
    name = draw.choice(sorted(files))
    damage(draw, folder, name, files)
    (folder / "out").mkdir()
    changed = snapshot(folder) != files
    outcome = read(
        lambda: reader(folder / NAME, folder / "out"), [NAME, name], lambda found: differences(found, expected)
    )
    return still_read(outcome, not changed)


def put(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def damage(draw: Random, folder: Path, name: str, files: dict[str, bytes]) -> None:
    path, action = folder / name, draw.random()
    if action < UNDAMAGED:
        return
    if action < 0.4:
        path.write_bytes(flip_bit(draw, files[name]))
    elif action < 0.7:
        edit_hdf5(draw, path)
    elif action < 0.75 and name != NAME:  # in its place, a shard would be a right result of fewer rows
        shutil.copy(folder / draw.choice(sorted(files)), folder / "copy")
        os.replace(folder / "copy", path)
    elif action < 0.8 and len(files) > 1:
        path.unlink()
    else:
        path.write_bytes(mutated(draw, files[name], (*BYTES, zero_all)))


# --- results of other things than single letters ----------------------------------------------------------------------


def everything(path: Path, folder: Path) -> dict[str, Any]:
    """All numbers of a result, as `fastism merge` copies them, and what `fastism info` says of it."""
    copy = folder / "copy.h5"
    merge_shards([str(path)], str(copy), overwrite=True)
    with h5py.File(copy) as file:
        stored: list[str] = []
        file.visit(stored.append)
    with read_result(copy) as file:
        names = [f"{group}/{head.name}" for group in NUMBERS for head in file.heads]
        found: dict[str, Any] = {name: file.dataset(name)[:] for name in names if name in stored}
        found |= {f"regions/{name}": column for name, column in file.regions.items()}
        found |= {"seq": file.seq[:], "sizes": file.genome_sizes, "heads": file.heads}
        has_pairs = file.pairs_layout is not None
    if has_pairs:
        with open_scores(path) as scores:
            found["map"] = scores.pairs_of(1, scores.tracks[0])
    return found | {"info": said_of(path)}


def prepare_form(folder: Path, *, form: str) -> Prepared:
    write(folder / NAME, "gzip", form=form)
    return contents(folder, everything)


def prepare_forms(folder: Path) -> dict[str, Prepared]:
    found = {}
    for form in FORMS:
        (folder / form).mkdir()
        found[form] = prepare_form(folder / form, form=form)
    return found


def attempt_json(prepared: dict[str, Prepared], draw: Random, folder: Path) -> Outcome:
    """Change an attribute that is JSON, and its checksum, as another program may write it: no number changes."""
    files, expected = prepared[draw.choice(sorted(prepared))]
    put(files, folder)
    with h5py.File(folder / NAME, "r+") as file:
        name = draw.choice([name for name in TEXTS if file.attrs.get(name)])
        if draw.random() > UNDAMAGED:
            file.attrs[name] = mutated_json(draw, file.attrs[name].encode()).decode()
        seal(file)
    (folder / "out").mkdir()
    known = {name: values for name, values in expected.items() if name.split("/")[0] in ("seq", *NUMBERS)}

    def found() -> dict[str, Any]:
        return {name: values for name, values in everything(folder / NAME, folder / "out").items() if name in known}

    return read(found, [NAME], lambda seen: differences(seen, known))


# --- unfinished results -----------------------------------------------------------------------------------------------


def prepare_unfinished(folder: Path) -> tuple[list[dict[str, bytes]], dict[str, Any]]:
    """Unfinished results with their journals, of two runs and at two moments, and the numbers of the first."""
    states = []
    for seed, rows in ((0, STEP), (0, 2 * STEP), (1, STEP)):
        at = folder / f"{seed}_{rows}"
        at.mkdir()
        write(at / NAME, "gzip", seed=seed, stop_after=rows)
        states.append(snapshot(at))
    whole = folder / "whole"
    whole.mkdir()
    write(whole / NAME, "gzip")
    return states, numbers(whole / NAME, folder)


def attempt_unfinished(prepared: tuple[list[dict[str, bytes]], dict[str, Any]], draw: Random, folder: Path) -> Outcome:
    """Damage an unfinished result or its journal, or mix those of two runs; then resume it and read it."""
    states, expected = prepared
    files = dict(draw.choice(states[:2]))
    before, name, action = dict(files), draw.choice(sorted(files)), draw.random()
    if action < 0.2:
        files[name] = draw.choice(states)[name]
    elif action < 0.3:
        del files[name]
    elif action > 0.3 + UNDAMAGED:
        files[name] = mutated(draw, files[name], (*BYTES, flip_bit, truncate, zero_all))
    put(files, folder)

    def resumed() -> dict[str, Any]:
        write(folder / NAME, "gzip", resume=True)
        return numbers(folder / NAME, folder)

    outcome = read(resumed, [NAME], lambda found: differences(found, expected))
    return still_read(outcome, files == before)


def kinds() -> Iterator[Kind]:
    for compression in ("none", "gzip", "lzf"):
        yield Kind(f"result-{compression}", partial(prepare, compression=compression), attempt, share=2)
    yield Kind("result-merged", partial(prepare_merged, virtual=False), attempt)
    yield Kind("result-virtual", partial(prepare_merged, virtual=True), attempt)
    for form in ("blocks", "pairs", "means"):
        yield Kind(f"result-{form}", partial(prepare_form, form=form), partial(attempt, reader=everything))
    yield Kind("result-json", prepare_forms, attempt_json)
    yield Kind("journal", prepare_unfinished, attempt_unfinished, share=2)
