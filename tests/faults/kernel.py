"""Real refusals by the kernel, in a child process: a flush that fails with EIO, a file that may not grow.

`fail_flushes` installs a seccomp filter, so fsync, fdatasync, msync and sync_file_range are answered with an error before the kernel does
anything. No code of ours or of SQLite is replaced. What it is not: a disk that loses what it had taken. A filter cannot be taken back,
so everything happens in a fork that ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

# machine -> (AUDIT_ARCH_*, numbers of fsync, fdatasync, msync, sync_file_range)
_MACHINES = {
    "x86_64": (0xC000003E, (74, 75, 26, 277)),
    "aarch64": (0xC00000B7, (82, 83, 227, 84)),
}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_AT_NUMBER, _AT_MACHINE, _AT_FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def fail_flushes(only: int | None = None) -> None:
    """Make every flush of the calling thread and its children fail with EIO from now on.

    Args:
        only: fail only those of this file descriptor.
    """
    machine, numbers = _MACHINES[platform.machine()]
    refuse = [(_RETURN, 0, 0, _ERRNO | errno.EIO)]
    if only is not None:
        refuse = [(_LOAD, 0, 0, _AT_FIRST_ARGUMENT), (_EQUAL, 1, 0, only), (_RETURN, 0, 0, _ALLOW), *refuse]
    tests = [(_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    body = [(_LOAD, 0, 0, _AT_NUMBER), *tests, (_RETURN, 0, 0, _ALLOW), *refuse]
    steps = [(_LOAD, 0, 0, _AT_MACHINE), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _ALLOW), *body]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    program = _Program(len(steps), ctypes.cast(held, ctypes.c_void_p))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel took no seccomp filter")


def let_no_file_grow_beyond(size: int) -> None:
    """Refuse every write behind `size` bytes of a file with EFBIG (Python ignores the signal that comes with it)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def in_child(act: Callable[[], object], seconds: float = 60.0) -> str:
    """Run something in a fork and return what it returns as text; its failure is this test's failure."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            said = str(act())
            code = 0
        except BaseException:
            said = traceback.format_exc()
        try:
            os.write(writer, said.encode()[:60_000])
        finally:
            os._exit(code)
    os.close(writer)
    end = time.monotonic() + seconds
    with os.fdopen(reader, "rb") as stream:
        said = stream.read().decode()
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, 9)
        time.sleep(0.005)
    assert os.waitstatus_to_exitcode(done[1]) == 0, said
    return said


def _works() -> str:
    """Return why flushes cannot be made to fail here; empty if they can."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return f"seccomp filters are written here for Linux on {' and '.join(_MACHINES)}"

    def attempt() -> str:
        try:
            fail_flushes()
        except OSError as error:
            return str(error)
        try:
            with open(__file__, "rb") as stream:
                os.fsync(stream.fileno())
        except OSError as error:
            return "" if error.errno == errno.EIO else str(error)
        return "the filter does nothing"

    return in_child(attempt)


def require_filters() -> None:
    """Skip, or fail where everything must run, if the kernel takes no filter."""
    if why := _works():
        if os.environ.get("COGNIFY_REQUIRE_ALL") == "1":
            pytest.fail(why)
        pytest.skip(why)


def descriptor_of(path: Path) -> int:
    """Return the descriptor under which this process has a file open for writing."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                return int(name)
        except OSError:
            continue
    raise AssertionError(f"{path} is not open")
