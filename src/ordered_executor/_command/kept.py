"""`--results FOLDER`: the output of each record in files of its own, `FOLDER/NUMBER/stdout` and `stderr`.

The workers write them, before the record counts as ended.
"""

from __future__ import annotations

import os
import shutil
from typing import IO


def keep(folder: str, number: int, record: bytes, out: IO[bytes], err: IO[bytes]) -> None:
    """Write the files of a record."""
    place = os.path.join(folder, str(number))  # noqa: PTH118 (a worker needs no pathlib)
    os.makedirs(place, exist_ok=True)  # noqa: PTH103 (the same)
    for name, source in (("stdout", out), ("stderr", err)):
        with open(os.path.join(place, name), "wb") as file:  # noqa: PTH118, PTH123 (the same)
            source.seek(0)
            shutil.copyfileobj(source, file)
    with open(os.path.join(place, "input"), "wb") as file:  # noqa: PTH118, PTH123 (the same)
        file.write(record)
