"""Memory that two processes share and that has no name: whichever process dies, nothing is left behind.

It comes from a memfd.  Without memfds it comes from a file in /dev/shm, or from an object of POSIX shared memory
(macOS); the name of either is removed at once.  The last resort is a file on disk: it is as good, but the system may
write it to the disk now and then.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
import secrets
import tempfile
from collections.abc import Callable

from ordered_executor._base.system.descriptors import above_streams

SHM_FOLDER = "/dev/shm"  # noqa: S108 (a file without a name)
_ZEROS = bytes(1024 * 1024)
# What `posix_fallocate` says where it is not to be had, and `pwrite` to what is no file.
_NOT_HERE = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENXIO, errno.ESPIPE, errno.ENODEV})


def memory_file(size: int, reserved: int = 0) -> int:
    """A descriptor of so many bytes of memory, of which the first `reserved` are there for certain.

    Raises OSError, which says of each place why it is not to be had there.
    """
    reasons, number = [], None
    for place, make in _places():
        try:
            return _sized(make(), size, reserved)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
            number = error.errno
    raise OSError(number or errno.ENOMEM, f"no memory for a lane: {'; '.join(reasons)}")


def _places() -> list[tuple[str, Callable[[], int]]]:
    return [("memfd_create", _memfd), (SHM_FOLDER, _file_in_shm), ("shm_open", _posix), (_folder(), _file_on_disk)]


def _sized(fd: int, size: int, reserved: int) -> int:
    try:
        os.ftruncate(fd, size)
        if reserved and not reserve(fd, 0, reserved):
            raise OSError(errno.ENOSPC, f"no room for {reserved} bytes")
        return above_streams(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise


def _memfd() -> int:
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "there is no such function")
    return os.memfd_create("ordered-executor", os.MFD_CLOEXEC)


def _file_in_shm() -> int:
    return _file_in(SHM_FOLDER)


def _file_on_disk() -> int:
    return _file_in(_folder())


def _folder() -> str:
    with contextlib.suppress(OSError):
        return tempfile.gettempdir()
    return os.curdir


def _file_in(folder: str) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:  # unlinked at once
        return os.dup(file.fileno())


def _posix() -> int:
    """`multiprocessing.shared_memory` would tell a tracker of it, and could not let go of the name."""
    try:
        shared = importlib.import_module("_posixshmem")  # it is not everywhere
    except ImportError as error:
        raise OSError(errno.ENOSYS, "there is no such function") from error
    name = f"/oe-{secrets.token_hex(8)}"  # macOS takes 31 characters
    fd: int = shared.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
    shared.shm_unlink(name)
    os.set_inheritable(fd, False)
    return fd


def reserve(fd: int, start: int, size: int) -> bool:
    """Make sure that the pages are there before they are written: a missing page is a SIGBUS, which kills.

    Pages that were never written are zeros, and so nothing changes where zeros are written.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, start, size)
            return True
    except OSError as error:
        if error.errno not in _NOT_HERE:
            return False
    return _write_zeros(fd, start, size)


def _write_zeros(fd: int, start: int, size: int) -> bool:
    try:
        while size > 0:
            written = os.pwrite(fd, _ZEROS[:size], start)
            start, size = start + written, size - written
    except OSError as error:
        # No file, but an object of the system's virtual memory (macOS): it has no file system that could be full.
        return error.errno in _NOT_HERE
    return True


def memory_limits() -> tuple[int | None, int | None]:
    """How large the address space of this process may be, and a file of it; None: as large as it wants."""
    soft = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    addresses, file = (None if limit == resource.RLIM_INFINITY else limit for limit in soft)
    return addresses, file
