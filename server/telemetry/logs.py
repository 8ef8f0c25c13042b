"""Logs: one JSON object a line for machines, coloured text on a terminal. Never message text, tokens or keys.

Everything that logs by the standard library ends here too. `request` and `connection` are the ids of what was going on.
"""

import logging
import sys
from typing import TYPE_CHECKING

from loguru import logger

from server.protocol.codec import encode

if TYPE_CHECKING:
    from loguru import Message, Record

QUIET = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,  # else two lines for each socket
    "asyncio": logging.WARNING,
    "websockets": logging.WARNING,
}


def configure(level: str, *, as_json: bool) -> None:
    """To standard error. Tracebacks show no values: a local variable may hold what somebody wrote."""
    logger.remove()
    if as_json:
        logger.add(_write_json, level=level, diagnose=False, backtrace=False)
    else:
        logger.add(sys.stderr, level=level, format=_text_format, diagnose=False, backtrace=False)
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.INFO, force=True)
    for name, quiet_level in QUIET.items():
        logging.getLogger(name).setLevel(quiet_level)


def is_terminal() -> bool:
    return sys.stderr.isatty()


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(logger=record.name).log(level, "{}", record.getMessage())


def _write_json(message: "Message") -> None:
    record = message.record
    line: dict[str, object] = {
        "at": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "message": record["message"],
        "where": f"{record['name']}:{record['line']}",
        **{key: str(value) for key, value in record["extra"].items()},
    }
    if record["exception"] is not None:
        line["exception"] = _traceback_of(record)
    sys.stderr.write(encode(line).decode() + "\n")


def _traceback_of(record: "Record") -> str:
    import traceback

    exception = record["exception"]
    if exception is None or exception.value is None:
        return ""
    return "".join(traceback.format_exception(exception.type, exception.value, exception.traceback))


def _text_format(record: "Record") -> str:
    ids = "".join(f" <dim>{key}={{extra[{key}]}}</dim>" for key in record["extra"] if key != "logger")
    return "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message}" + ids + "\n{exception}"
