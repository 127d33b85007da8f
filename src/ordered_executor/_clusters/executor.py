"""What the executors on clusters have in common: bounds, and options that only the cluster understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ordered_executor._base.checks import check_count, check_optional_count
from ordered_executor._clusters.backend import ClusterBackend
from ordered_executor._core.executor import OptionsView, OrderedExecutor


class ClusterExecutor(OrderedExecutor):
    """See the module."""

    # Check the options of the cluster's own.  Return those that are given, over those of a base.
    _check_extra: ClassVar[Callable[..., dict[str, Any]]]

    def __init__(self, backend: ClusterBackend, extra: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(backend, backend.window, backend.first_workers, **settings)
        self._options = self._options._replace(extra=extra)

    def _view(self, retries: int | None, timeout: float | None, **given: Any) -> OptionsView:
        base = OrderedExecutor.options(self, retries=retries, timeout=timeout)._options
        return OptionsView(self, base._replace(extra=self._check_extra(base.extra, **given)))


def check_bounds(max_workers: int | None, window: int | None, window_bytes: int) -> tuple[int | None, int | None, int]:
    """Those of all clusters."""
    return (
        check_optional_count("max_workers", max_workers, 1),
        check_optional_count("window", window, 1),
        check_count("window_bytes", window_bytes, 1),
    )
