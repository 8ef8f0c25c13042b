"""The names of what may be broken, and one finding of it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

EXAMPLES = 5  # of one check; a broken run breaks the same thing a thousand times


class Check(StrEnum):
    LOST = "lost"  # acknowledged, and not in the log
    DOUBLED = "doubled"  # one client id twice in the log, or one event twice at one device
    REORDERED = "reordered"  # out of order, or otherwise than the log has it
    HOLED = "holed"  # a gap in the log, or in what a device saw
    INVENTED = "invented"  # seen, and never committed
    FOREIGN = "foreign"  # seen or done by somebody who was no member then
    AFTER_REVOCATION = "after_revocation"  # seen when the right to see had been taken away
    UNFINISHED = "unfinished"  # a run that has neither ended nor a lease
    UNANSWERED = "unanswered"  # asked, and neither acknowledged nor refused
    ANSWERED_TWICE = "answered_twice"  # more answers than were asked for
    THROWN_OUT = "thrown_out"  # a device that was sent away for good, though nobody had ended its sign-in
    DROPPED = "dropped"  # a member who was made to follow a room no more, or who does not at the end
    UNTOLD = "untold"  # somebody was let in, and their device has not heard of it by the end
    CONTRADICTED = "contradicted"  # two answers to one id that differ, or one that the log denies
    WRONG_BYTES = "wrong_bytes"  # another text than was sent


@dataclass(frozen=True, slots=True)
class Violation:
    check: Check
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


def summary(found: Iterable[Violation]) -> str:
    """Each check with how often it failed and some examples; empty when nothing did."""
    by_check: dict[Check, list[str]] = defaultdict(list)
    for violation in found:
        by_check[violation.check].append(violation.detail)
    lines = []
    for check, details in by_check.items():
        lines.append(f"{check} ({len(details)})")
        lines += [f"    {detail}" for detail in details[:EXAMPLES]]
    return "\n".join(lines)
