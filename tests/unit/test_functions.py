"""Functions are packed once for as long as they stay the same, and no longer than they live."""

from __future__ import annotations

import gc
import pickle
import random
import weakref
from types import FunctionType
from typing import Any

import pytest

from ordered_executor._pickling import functions
from ordered_executor._pickling.functions import may_be_shared, pack_function


def of_main(code: str, **names: Any) -> Any:
    """A function `f` of `__main__`, whose globals are these names."""
    names["__name__"] = "__main__"
    exec(code, names)
    return names["f"]


def run(fn: Any, *args: Any) -> Any:
    """What a worker would come to."""
    return pickle.loads(pack_function(fn))(*args)


def test_a_function_is_packed_once() -> None:
    """The same bytes object, as long as nothing that it refers to has changed."""
    f = of_main("def g(): return 1\ndef f(): return g() + x", x=1)
    assert pack_function(f) is pack_function(f)
    before = pack_function(f)
    f.__globals__["x"] = 2
    assert run(f) == 3
    assert pack_function(f) is not before


def test_a_function_that_is_gone_is_not_kept() -> None:
    """Neither itself nor its pickle, also if it calls itself."""
    for code in (
        "def f(x=bytes(10)): return x",
        "def f(n): return n and f(n - 1)",
        "f = lambda: 1",
    ):
        f = of_main(code)
        pack_function(f)
        assert f in functions._packed
        gone = weakref.ref(f)
        del f
        gc.collect()
        assert gone() is None, code


def test_functions_that_refer_to_each_other_are_not_kept_for_ever() -> None:
    """What is kept for one keeps the other, and so itself: only so many are kept at all."""
    for _ in range(3 * functions._MOST_PACKED):
        pack_function(of_main("def g(n): return n and f(n - 1)\ndef f(n): return n and g(n - 1)"))
    assert len(functions._packed) <= functions._MOST_PACKED
    functions._packed.clear()


def test_a_class_of_main_may_change() -> None:
    """A function that uses it is packed anew each time: a worker never sees an old state."""
    f = of_main("class C:\n    x = 1\ndef f(): return C.x")
    assert run(f) == 1
    f.__globals__["C"].x = 2
    assert run(f) == 2


def test_a_function_made_in_another_module_may_refer_to_what_changes() -> None:
    """It goes by value, although its module can be imported: what it refers to goes with it."""
    names = {"__name__": __name__, "settings": 1}
    exec("def make():\n    def inner(): return settings\n    return inner", names)
    f = of_main("def f(): return inner()", inner=names["make"]())  # type: ignore[operator]
    assert run(f) == 1
    names["settings"] = 2
    assert run(f) == 2


@pytest.mark.parametrize("method", [[1, 2].pop, random.Random(5).random, {}.get, "a".join])
def test_a_method_of_an_object_is_not_shared(method: Any) -> None:
    """Each call gets a copy of the object as it was."""
    assert not may_be_shared(method)


@pytest.mark.parametrize("fn", [len, dict.fromkeys, int, FunctionType, of_main])
def test_what_has_no_state_is_shared(fn: Any) -> None:
    """Builtins, classes and functions."""
    assert may_be_shared(fn)
