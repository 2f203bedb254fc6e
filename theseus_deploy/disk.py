"""Files on a disk that may be full, shared, or gone in the middle: whole or absent, and errors in one line."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from theseus_deploy.errors import ArtifactError

SHOWN = 32  # characters of a file's name in that of its draft, which may be no longer than a name may be
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
              errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.EBUSY,
              errno.EXDEV)  # fmt: skip
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust ends the message of an I/O error


def as_disk_error(error: Exception) -> OSError:
    """Turn the error of a library in Rust, which only its words tell apart, into the OSError it stands for."""
    number = OS_ERROR.search(str(error))
    code = int(number[1]) if number else errno.EACCES
    return OSError(code, os.strerror(code))


@contextmanager
def torch_writing() -> Iterator[None]:
    """Raise OSError for the RuntimeError that torch.save raises, in words that vary, where a file cannot be written."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error).partition("\n")[0]) from error


@contextmanager
def writable(out: Path, flag: str = "--out") -> Iterator[None]:
    """Turn what keeps `out`, which the user named by `flag`, from being written into one line.

    Raises:
        ArtifactError: the disk is full, the place is read-only, a parent is a file or takes no folders, as /proc.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE and not _is_beside(error, out):
            raise
        raise ArtifactError(
            f"{out} cannot be written ({error.strerror}); free space or choose another {flag}"
        ) from error


def _is_beside(error: OSError, out: Path) -> bool:
    """Tell whether what is missing is a folder above `out`, or beside it for its sake: the place's fault, not ours."""
    if not isinstance(error, FileNotFoundError) or not error.filename:
        return False
    missing = Path(error.filename)
    return missing in out.parents or (missing.parent == out.parent and out.name in missing.name)


@contextmanager
def temporary() -> Iterator[None]:
    """Turn what keeps a temporary file or folder from being made into one line.

    Raises:
        ArtifactError: its disk is full or read-only, or there is no place for it.
    """
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"no temporary file can be written ({error.strerror}); free space, or name another folder in TMPDIR"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[bool | None]:
    """Hold a folder's lock, which the system releases when the process dies.

    Gives False where another process holds it, None where there are no locks: on Windows, and on some file systems.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # the folder may be gone by now, or another user's
        yield None
        return
    held: bool | None = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held = False
    except OSError:
        held = None
    try:
        yield held
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str) -> None:
    """Write a text file so that it is there whole or not at all, whatever happens meanwhile.

    Of a name that is no UTF-8, the bytes that are none are escaped as JSON does it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:SHOWN]}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have what was written to a file or folder on the disk before anything else."""
    if os.name == "nt":  # Windows opens no folders, and flushes files when they are closed
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
