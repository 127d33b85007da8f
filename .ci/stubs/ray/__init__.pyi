from typing import Any

from . import exceptions as exceptions

def __getattr__(name: str) -> Any: ...
