"""What libraries raise where a disk is full or cannot be written, as the OSError it stands for."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

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
