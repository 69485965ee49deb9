"""Files: written whole or not at all, and known by their content."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kanji_diffusion.core.errors import KanjiDiffusionError

PARTIAL = ".partial_"
"""What the name of everything unfinished begins with."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class WriteError(KanjiDiffusionError):
    """The operating system refused to write.

    Args:
        target: What was to be written.
        reason: What the operating system says.
        code: Its number of the error, if known.

    Attributes:
        reason: Why it refused and, if the disk is full, how much room is left.
    """

    def __init__(self, target: Path, reason: str, code: int | None = None) -> None:
        self.reason, remedy = reason, "correct that"
        if code in _FULL:
            folder = _existing(target.parent)
            self.reason = f"{reason}; {shutil.disk_usage(folder).free / 1e6:.1f} MB are free in {folder}"
            remedy = "free some space"
        elif code in _FORBIDDEN:
            remedy = "make it writable"
        super().__init__(f"{target} cannot be written ({self.reason}): {remedy} and run the same command again.")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path to write a file or folder to, and move it to `target` once it is on the disk.

    The path lies in a folder beside `target` that is locked while this process lives, so that the next writer there
    removes what a killed one left. A folder that exists and is not empty is not replaced.

    Raises:
        WriteError: If the operating system refuses to write; `target` is as it was then, and nothing else is left.
    """
    try:
        with _partial_folder(target) as folder:
            path = folder / target.name
            yield path
            for part in (path, *path.rglob("*")):
                sync(part)
            path.rename(target)
            sync(target.parent)
    except Exception as error:
        # Writers in Rust (safetensors, tokenizers) have exceptions of their own, with the number in the text.
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is None and not isinstance(error, OSError):
            raise
        code = int(told[1]) if told else getattr(error, "errno", None)
        raise WriteError(target, os.strerror(code) if code else str(error), code) from error


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that this process may not write to. It need not exist yet.

    Raises:
        WriteError: If it or, where it does not exist, the folder to make it in is read-only or no folder.
    """
    there = _existing(folder)
    if not there.is_dir():
        raise WriteError(folder, os.strerror(errno.ENOTDIR), errno.ENOTDIR)
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        code = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise WriteError(folder, os.strerror(code), code)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    """A locked folder beside `target`, which is removed in the end with what is still in it."""
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Nobody looks for remains between the making of a folder and its lock.
        with _locked(parent, wait=True):
            for remains in parent.glob(f"{PARTIAL}*"):
                with suppress(OSError), _locked(remains) as dead:
                    if dead:
                        shutil.rmtree(remains)
            folder = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{target.name}_", dir=parent))
            stack.enter_context(_locked(folder))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder's lock, which ends with the process.

    Yields:
        Whether it is held; not if another process holds it, or if the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def _existing(path: Path) -> Path:
    """`path`, or the nearest of its parents that exists."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))
