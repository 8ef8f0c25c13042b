"""The table at the end, as Markdown that also reads well as it is."""

from collections.abc import Sequence

from tests.chaos.stage import Outcome

HEAD = ("fault", "what happens", "promise", "bound", "whole again after", "events", "", "more")


def table(outcomes: Sequence[Outcome]) -> str:
    return _drawn(HEAD, [_cells(outcome) for outcome in outcomes])


def _cells(outcome: Outcome) -> tuple[str, ...]:
    fault = outcome.fault
    bound = f"{'p95 ' if fault.is_p95 else ''}<= {fault.limit_s:g} s"
    measured = f"{outcome.repair_s:.2f} s"
    if fault.is_p95:
        measured = f"p95 {outcome.repair_p95_s:.2f} s, last {measured}"
    verdict = "ok" if outcome.is_met else "BROKEN"
    return (
        fault.name, fault.what, fault.promise, bound, measured, f"{outcome.events:,}", verdict,
        "; ".join(dict.fromkeys(outcome.notes)),
    )  # fmt: skip


def sabotage_table(rows: Sequence[tuple[str, str, str, str, bool]]) -> str:
    """(sabotage, what it breaks, the check that must turn red, those that did, whether it was among them)."""
    shown = [(*row[:4], "ok" if row[4] else "NOT SEEN") for row in rows]
    return _drawn(("sabotage", "what it breaks", "must turn red", "turned red", ""), shown)


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]])
