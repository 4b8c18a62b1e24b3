"""Files that are made whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from chipassay.results.errors import FileError


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step, so that a crash leaves the old file or the new one.

    Raises FileError when the folder or the disk does not allow it.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise FileError(path, f"cannot be written ({error.strerror})", mend="choose another place with --out") from error
