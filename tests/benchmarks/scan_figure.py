"""Tables and figure of the calibration of the scans, and the study as a program.

python tests/benchmarks/scan_figure.py docs/figures/scan_calibration.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scan_study as study
from scan_study import CELLS, Measured

from skytrawl.catalogs.scan_null import combined

LEVEL = 0.05
NULLS, BINARIES, SCORED = 2000, 200, 500
METHODS = ("false-alarm probability", "dchi2", "score 0.3.2", "score 0.5.2")


@dataclass
class Study:
    """Everything that was measured, by cell in the order of `CELLS`."""

    null: list[Measured]
    null_scores: list[np.ndarray]
    planets: list[Measured]
    planet_scores: list[np.ndarray]
    strength: list[np.ndarray]

    def __post_init__(self) -> None:
        self.faps = study.leave_one_out(self.null)
        null = study.null_of(self.null)
        self.planet_faps = [null.fap(cell.statistic, cell.features)[0] for cell in self.planets]

    def values(self, cell: int, method: int) -> tuple[np.ndarray, np.ndarray]:
        """What a method says of null curves and of planets: the larger, the less like noise."""
        if method == 0:
            return tuple(-combined(*x[cell].T) for x in (self.faps, self.planet_faps))
        if method == 1:
            return self.null[cell].dchi2, self.planets[cell].dchi2
        return self.null_scores[cell][:, method - 2], self.planet_scores[cell][:, method - 2]

    def rates(self, level: float = LEVEL) -> np.ndarray:
        """Measured rates of bumps and dips below the level, by cell."""
        return np.array([(faps < level).mean(axis=0) for faps in self.faps])

    def found(self, method: int, rate: float) -> np.ndarray:
        """Planets found with one threshold for all, by cell; `rate` is measured over all null curves."""
        null, planets = zip(*(self.values(cell, method) for cell in range(len(CELLS))), strict=True)
        limit = np.quantile(np.concatenate(null), 1 - rate)
        return np.array([int((x > limit).sum()) for x in planets])

    def found_by_cell(self, method: int, level: float = LEVEL) -> np.ndarray:
        """Planets found with a threshold for each cell, at the rate that the probability has there."""
        found = []
        for cell in range(len(CELLS)):
            rate = float((self.values(cell, 0)[0] > -level).mean())
            null, planets = self.values(cell, method)
            limit = -level if method == 0 else np.quantile(null, 1 - rate)
            found.append(int((planets > limit).sum()))
        return np.array(found)

    @property
    def rate(self) -> float:
        """Measured rate of all null curves together at the nominal level."""
        return float(np.mean([self.values(cell, 0)[0] > -LEVEL for cell in range(len(CELLS))]))


def run(nulls: int = NULLS, binaries: int = BINARIES, scored: int = SCORED, processes: int = 2) -> Study:
    """Measure everything; the seeds differ from those that the statistic was chosen with."""
    null = study.null_cells(nulls, 9000, processes)
    counts = [binaries // len(CELLS) + (i < binaries % len(CELLS)) for i in range(len(CELLS))]
    jobs = [(*cell, count, 2026) for cell, count in zip(CELLS, counts, strict=True)]
    planets, scores, strength = zip(*study.in_parts(study._binary_part, jobs, processes), strict=True)
    parts = max(1, scored // 100)
    jobs = [(*cell, scored // parts, 500 + k) for cell in CELLS for k in range(parts)]
    found = study.in_parts(study._score_part, jobs, processes)
    null_scores = [np.concatenate(found[i * parts : (i + 1) * parts]) for i in range(len(CELLS))]
    return Study(null, null_scores, list(planets), list(scores), list(strength))


def tables(done: Study) -> str:
    """False-alarm rates and planets found, in Markdown."""
    rates, halves = 100 * done.rates(), 100 * study.split_rates(done.null)
    lines = [
        "| cadence, noise | bumps | dips | bumps, halves | dips, halves |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (cadence, noise), one, other in zip(CELLS, rates, halves, strict=True):
        lines.append(f"| {cadence}, {noise} | " + " | ".join(f"{x:.1f} %" for x in (*one, *other)) + " |")
    low = [100 * np.mean([f < level for f in done.faps]) for level in (0.01, 0.001)]
    lines += ["", f"Over all cells, at nominal 1 % and 0.1 %: {low[0]:.2f} % and {low[1]:.2f} %.", ""]
    one = [done.found(method, done.rate) for method in range(4)]
    own = [done.found_by_cell(method) for method in range(4)]
    lines += [
        f"Rate of all null curves at nominal 5 % (bump or dip): {100 * done.rate:.1f} %.",
        "",
        "| cadence, noise | planets | " + " | ".join(METHODS) + " |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for i, (cadence, noise) in enumerate(CELLS):
        cells = " | ".join(f"{one[m][i]} ({own[m][i]})" for m in range(4))
        lines.append(f"| {cadence}, {noise} | {len(done.planets[i].dchi2)} | {cells} |")
    cells = " | ".join(f"{one[m].sum()} ({own[m].sum()})" for m in range(4))
    lines.append(f"| all | {sum(len(p.dchi2) for p in done.planets)} | {cells} |")
    return "\n".join(lines)


def draw(done: Study, path: Path) -> None:
    """Measured against nominal rates, and efficiency against the rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"dense": "#1b6ca8", "kmt": "#d1495b", "ztf": "#66a182"}
    styles = {"white": "-", "ou": "--", "understated": ":"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    level = np.logspace(-3, -0.3, 60)
    for (cadence, noise), faps in zip(CELLS, done.faps, strict=True):
        rate = [(faps < x).mean() for x in level]
        left.loglog(level, rate, styles[noise], color=colours[cadence], lw=1.3, label=f"{cadence}, {noise}")
    left.loglog(level, level, color="black", lw=0.8)
    left.plot([0.05, 0.05], [0.033, 0.075], color="black", lw=3, alpha=0.5, solid_capstyle="butt")
    left.set(
        xlabel="nominal false-alarm probability", ylabel="measured rate of bumps and dips", ylim=(5e-4, 0.7)
    )
    left.legend(fontsize=8, frameon=False)
    left.set_title("Curves without anomaly", fontsize=10)
    rates = np.logspace(-3, -0.5, 50)
    total = sum(len(p.dchi2) for p in done.planets)
    names = zip(METHODS, ("#222222", "#1b6ca8", "#d1495b", "#e3a857"), strict=True)
    for method, (name, colour) in enumerate(names):
        found = [done.found(method, r).sum() / total for r in rates]
        right.semilogx(
            rates, found, color=colour, lw=2 if method == 0 else 1.3, label=name.replace("dchi2", "Δχ²")
        )
        own = done.found_by_cell(method).sum() / total
        right.plot(done.rate, own, "o", color=colour, ms=6, mfc="none" if method else colour)
    right.set(xlabel="measured false-alarm rate", ylabel="planets found", ylim=(0, 1))
    right.legend(fontsize=8, frameon=False, loc="lower right")
    right.set_title("One threshold for all (circles: one for each cell)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    everything = run()
    print(tables(everything))
    draw(everything, Path(sys.argv[1]))
