"""Files that a command is told to write: looked at before its work begins."""

import os
from pathlib import Path

from rayft.errors import DataError, Problem


def check_output_file(file: Path, *, option: str, such_as: str) -> None:
    """Refuse a place where no file can be written.

    Args:
        file: what was asked for.
        option: where.
        such_as: a good name for the file.

    Raises:
        DataError: it is a folder, or lies in none that can be written to.
    """
    if file.is_dir():
        fix = f"name a file in it, such as {file / such_as}"
        raise DataError(Problem(option, f"{file} is a folder", fix))
    if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        what = "its folder is not there or not writable"
        raise DataError(Problem(str(file), what, f"choose another file with {option}"))
