"""Figures and the table they end in."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

HEAD = ("figure", "ours", "beside it", "ratio", "target", "", "Postgres, and more")


@dataclass(frozen=True, slots=True)
class Row:
    """`is_met` is None for what has no target: told for comparison only."""

    figure: str
    ours: str
    beside: str = ""
    ratio: str = ""
    target: str = ""
    is_met: bool | None = None
    notes: str = ""

    def cells(self) -> tuple[str, ...]:
        verdict = {True: "ok", False: "SHORT", None: ""}[self.is_met]
        return self.figure, self.ours, self.beside, self.ratio, self.target, verdict, self.notes


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two series measured in turns: their medians, and the median of the ratios of neighbours, which noise disturbs
    least.
    """

    ours: float
    beside: float
    ratio: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours: Sequence[float], beside: Sequence[float]) -> Self:
        ratios = [one / other for one, other in zip(ours, beside, strict=True)]
        return cls(
            statistics.median(ours), statistics.median(beside), statistics.median(ratios), min(ratios), max(ratios)
        )

    @property
    def text(self) -> str:
        return f"{self.ratio:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def table(rows: Sequence[Row]) -> str:
    """Markdown that also reads well as it is."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def thousands(value: float) -> str:
    return f"{value:,.0f}"
