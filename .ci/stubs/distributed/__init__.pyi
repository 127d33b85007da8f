from typing import Any

class KilledWorker(Exception):
    last_worker: Any

def __getattr__(name: str) -> Any: ...
