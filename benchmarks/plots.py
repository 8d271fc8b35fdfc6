"""Plots: a report as SVG files, drawn by matplotlib (`pip install 'aiojobs_rt[bench]'`).

What is drawn is readable on white and on black: the ground is transparent, lines and words are of a middle grey. Words stay text, nothing
is dated or random, so that the same report gives the same files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.results import Report

MISSING = "no plots: they need matplotlib. Run: pip install 'aiojobs_rt[bench]'"
POINTS = 200
"""Of a distribution's curve, at most."""
GREY = "#808080"
COLOURS = ("#3b82c4", "#e08a1e", "#4a9d5b", "#c8504b", "#8a6fc0", "#a0765a", "#d070a8", "#909090", "#a8a832", "#30a8b8")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aiojobs_rt",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw what the report holds; the files, in the order in which they are to be shown.

    Raises:
        ImportError: matplotlib is missing.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    mpl.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        drawn = [_throughput(report, folder / "throughput.svg"), _delays(report, folder), _backlog(report, folder)]
    return [path for group in drawn for path in group]


def draw_sweep(points: Sequence[tuple[str, int, float, float]], folder: Path) -> Path:
    """Throughput and 99th percentile against concurrency: points of (prefetch, concurrency, jobs/s, ms).

    Raises:
        ImportError: matplotlib is missing.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
        for index, prefetch in enumerate(dict.fromkeys(point[0] for point in points)):
            line = sorted(point[1:] for point in points if point[0] == prefetch)
            style = {"marker": "o", "color": COLOURS[index % len(COLOURS)], "label": f"prefetch {prefetch}"}
            above.plot([c for c, _, _ in line], [rate for _, rate, _ in line], **style)
            below.plot([c for c, _, _ in line], [ms for _, _, ms in line], **style)
        ticks = sorted({point[1] for point in points})
        below.set_xscale("log")
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        below.minorticks_off()
        below.set_xlabel("concurrency")
        above.set_ylabel("jobs/s")
        below.set_ylabel("p99 of a run, ms")
        above.set_ylim(bottom=0)
        below.set_ylim(bottom=0)
        above.legend()
        path = folder / "tune.svg"
        _save(figure, path)
    return path


def thin(samples: Sequence[float], points: int = POINTS) -> list[tuple[float, float]]:
    """A distribution's curve from sorted samples: (value, share of samples at most that great), the greatest last."""
    last = len(samples) - 1
    indexes = range(last + 1) if last < points else [index * last // (points - 1) for index in range(points)]
    return [(samples[index], (index + 1) / (last + 1)) for index in indexes]


def _throughput(report: Report, path: Path) -> list[Path]:
    results = [r for r in report.results if r.runs and r.median("jobs_per_s") is not None]
    if not results:
        return []
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    titles = list(dict.fromkeys(r.title for r in results))
    systems = list(dict.fromkeys(r.system for r in results))
    height = 0.8 / len(systems)
    figure, axes = plt.subplots(figsize=(8, 1 + 0.22 * len(titles) * max(len(systems), 2)), layout="constrained")
    for index, system in enumerate(systems):
        for result in (r for r in results if r.system == system):
            place = titles.index(result.title) - 0.4 + (index + 0.5) * height
            median, values = result.median("jobs_per_s") or 0.0, result.values("jobs_per_s")
            spread = [[median - min(values)], [max(values) - median]]
            axes.barh(place, median, height * 0.9, xerr=spread, color=COLOURS[index % 10], ecolor=GREY)
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("jobs/s: median, least and greatest")
    axes.legend(
        handles=[_swatch(system, index) for index, system in enumerate(systems)],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
    )
    _save(figure, path)
    return [path]


def _delays(report: Report, folder: Path) -> list[Path]:
    """One distribution for each scenario that kept samples, all systems in it."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    kept = [r for r in report.results if r.runs and r.samples()]
    paths: list[Path] = []
    for scenario in dict.fromkeys(r.scenario for r in kept):
        figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
        some = [r for r in kept if r.scenario == scenario]
        for index, result in enumerate(some):
            curve = thin(result.samples())
            xs, ys = [max(x, 0.01) for x, _ in curve], [100 * y for _, y in curve]
            axes.step(xs, ys, where="post", color=COLOURS[index % 10], label=result.system)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(0, 101)
        axes.set_xlabel("ms")
        axes.set_ylabel("% of jobs within")
        axes.set_title(some[0].title, color=GREY)
        axes.legend(loc="lower right")
        _save(figure, folder / f"{scenario}.svg")
        paths.append(folder / f"{scenario}.svg")
    return paths


def _backlog(report: Report, folder: Path) -> list[Path]:
    """CPU per job against the jobs that wait."""
    sizes = {"backlog-10k": 10_000, "backlog-100k": 100_000, "backlog-1m": 1_000_000}
    found = [r for r in report.results if r.scenario in sizes and r.runs]
    if len({r.scenario for r in found}) < 2:
        return []
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for index, system in enumerate(dict.fromkeys(r.system for r in found)):
        line = [(sizes[r.scenario], r) for r in found if r.system == system]
        for name, dashes, what in (("python_us", "-", "worker"), ("redis_us", "--", "Redis")):
            ys = [r.median(name) or 0.0 for _, r in line]
            xs = [size for size, _ in line]
            axes.plot(xs, ys, dashes, marker="o", color=COLOURS[index % 10], label=f"{system}, {what}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("jobs that wait")
    axes.set_ylabel("CPU us a job")
    axes.legend()
    _save(figure, folder / "backlog.svg")
    return [folder / "backlog.svg"]


def _swatch(label: str, index: int) -> Any:
    from matplotlib.patches import Patch  # noqa: PLC0415 - an extra

    return Patch(color=COLOURS[index % 10], label=label)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # the same on every machine, and no blanks at the ends of lines
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
