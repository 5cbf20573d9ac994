"""The table and the pictures of ``sweeps.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLUMNS = (
    "| model | varied | value | naive, s | fastism, s | speedup | range | limit |\n|---|---|---|---|---|---|---|---|"
)
MODEL_OF = {"targets": "basset", "kernel_size": "basset", "depth": "conv_stack", "others": ""}
LENGTH_PICTURE, SHAPE_PICTURE = "length.svg", "shape.svg"
SIZE = (8.0, 3.4)  # inches


def sweep_table(figures: dict[str, Any]) -> str:
    lines = [COLUMNS]
    for name, sweep in figures["sweeps"].items():
        for r in sweep["rows"]:
            model, value = MODEL_OF.get(name, name), r["value"]
            if name == "others":
                model, value = value, f"L = {r['length']}"
            spread = f"{r['speedup_low']:.1f} to {r['speedup_high']:.1f}"
            lines.append(
                f"| {model} | {sweep['variable']} | {value} | {r['naive_seconds']:.3g} (batch {r['naive_batch']}) "
                f"| {r['fast_seconds']:.3g} | **{r['speedup']:.1f}x** | {spread} | {r['limit']:.1f}x |"
            )
    return "\n".join(lines)


def draw(figures: dict[str, Any], folder: Path) -> list[str]:
    """``length.svg``: seconds a sequence by its length. ``shape.svg``: speedup by targets, kernel size and depth.

    Returns
    -------
    list of str
        Markdown that shows those for which there are figures.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastism"  # the same figures make the same file
    sweeps, shown = figures["sweeps"], []
    lengths = [name for name, sweep in sweeps.items() if sweep["variable"] == "length"]
    shapes = [name for name in ("targets", "kernel_size", "depth") if name in sweeps]
    if lengths:
        draw_lengths(sweeps, lengths, folder / LENGTH_PICTURE)
        shown.append(f"![seconds for one sequence, by its length]({LENGTH_PICTURE})")
    if shapes:
        draw_shapes(sweeps, shapes, folder / SHAPE_PICTURE)
        shown.append(f"![times faster than naive, by {', '.join(shapes)}]({SHAPE_PICTURE})")
    return shown


def draw_lengths(sweeps: dict[str, Any], names: list[str], path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(names), figsize=SIZE, sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for ax, name in zip(axes[0], names, strict=True):
        rows = sweeps[name]["rows"]
        lengths = [r["value"] for r in rows]
        for key, label, style in (("naive_seconds", "naive", "o--"), ("fast_seconds", "fastism", "o-")):
            ax.loglog(lengths, [r[key] for r in rows], style, label=label, markersize=4)
        ax.set(title=name, xlabel="length, bases")
        ax.set_xticks(lengths, [str(n) for n in lengths], minor=False, rotation=45)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds for one sequence")
    axes[0, 0].legend()
    save(figure, path)


def draw_shapes(sweeps: dict[str, Any], names: list[str], path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(names), figsize=SIZE, layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        rows = sweeps[name]["rows"]
        values = range(len(rows))
        ax.plot(values, [r["limit"] for r in rows], "k:", label="limit")
        spread = [[r["speedup"] - r["speedup_low"] for r in rows], [r["speedup_high"] - r["speedup"] for r in rows]]
        ax.errorbar(values, [r["speedup"] for r in rows], yerr=spread, fmt="o-", capsize=3, label="measured")
        ax.set(title=f"{MODEL_OF[name]}, L = 1000", xlabel=sweeps[name]["variable"])
        ax.set_xticks(values, [str(r["value"]) for r in rows])
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("times faster than naive")
    axes[0, 0].legend()
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
