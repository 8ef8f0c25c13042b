"""Becomes an unprivileged account, then executes a program. Run as a script by root; Postgres refuses to run as root.

In:   `python -I -S become_account.py UID GID COUNT PATH… PROGRAM ARGUMENT…`; PATH…: the COUNT places it must reach.
Out:  the program in our place; or one line on standard error and the exit status `BLOCKED_EXIT_STATUS`.
Promises: no file changes its mode or owner. The program keeps no privilege, with one exception, on Linux: where a PATH
lies below a directory that the account may not enter (a clone under /root, a `mktemp -d` of root), it keeps the single
capability to pass such directories, because the alternative is to open them to everybody. It is an ambient capability,
so it passes on to the processes that initdb starts.

A script of its own and no `preexec_fn`: Python between fork and exec can deadlock in a program that has threads.
"""

import ctypes
import os
import sys
from pathlib import Path

BLOCKED_EXIT_STATUS = 117  # used by neither Postgres (0, 1, 2) nor initdb (1) nor a shell (126 and up)

# Named as in linux/capability.h and linux/prctl.h.
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    uid, gid, count = (int(number) for number in arguments[:3])
    places, command = arguments[3 : 3 + count], arguments[3 + count :]
    try:
        become(uid, gid, places)
        os.execv(command[0], command)  # noqa: S606 -- the whole purpose of this script
    except OSError as error:
        sys.stderr.write(f"as user {uid} it cannot: {error}\n")
        sys.exit(BLOCKED_EXIT_STATUS)


def become(uid: int, gid: int, places: list[str]) -> None:
    linux = sys.platform == "linux"
    if linux:
        _prctl(PR_SET_KEEPCAPS, 1)  # else the change of user drops every capability
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)
    # access() asks for the real user without its capabilities, so it answers for the plain account.
    blocked = next((blocker for place in places if (blocker := first_blocked(place))), None)
    if blocked is None:
        if linux:
            _set_capabilities(0)
    elif not linux or not _keep_reach():
        raise OSError(f"it may not enter {blocked}; move the data directory, start as another user or set DATABASE_URL")


def first_blocked(place: str) -> Path | None:
    """The directory nearest to the root that keeps this user from `place`; None when it can be reached."""
    path = Path(place)
    for step in (*reversed(path.parents), path):
        if not os.access(step, os.X_OK):
            return step
    return None


def _keep_reach() -> bool:
    permitted = _permitted_capabilities()
    # READ_SEARCH passes directories and reads; OVERRIDE also writes, but is the one that containers have by default.
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if permitted & (1 << capability) and permitted & (1 << CAP_SETPCAP):
            # Postgres looks for its programs with access(), which counts capabilities only under this bit.
            _set_capabilities(1 << capability | 1 << CAP_SETPCAP)
            _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
            _set_capabilities(1 << capability)
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
            return True
    return False


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _permitted_capabilities() -> int:
    sets = (_Sets * 2)()
    _call("capget", ctypes.byref(_Header(LINUX_CAPABILITY_VERSION_3, 0)), sets)
    return int(sets[0].permitted)


def _set_capabilities(bits: int) -> None:
    sets = (_Sets * 2)(_Sets(bits, bits, bits), _Sets(0, 0, 0))
    _call("capset", ctypes.byref(_Header(LINUX_CAPABILITY_VERSION_3, 0)), sets)


def _prctl(option: int, *values: int) -> None:
    padded = (*values, 0, 0, 0, 0)[:4]
    _call("prctl", ctypes.c_int(option), *(ctypes.c_ulong(value) for value in padded))


def _call(name: str, *arguments: object) -> None:
    if ctypes.CDLL(None, use_errno=True)[name](*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


if __name__ == "__main__":
    main(sys.argv[1:])
