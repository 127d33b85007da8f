"""Running the top level of the script in a worker that has things of it already; loaded by the few that need it."""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Callable, Iterator
from multiprocessing.process import current_process
from types import CodeType
from typing import Any, NamedTuple

from ordered_executor._pickling.exceptions import class_name, message_of
from ordered_executor._pickling.rebuild import AS_SPAWN_DOES, MAIN
from ordered_executor._script.top_level import bound

_BEARING = "__ordered_executor_bears__"  # a name in the top level, while it runs
_MOST_NAMES = 8
_COME_ANYWAY = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)  # from the parent
Known = Callable[[str], Any]  # the class of this name that is here already, or None


class Stopped(NamedTuple):
    """The top level did not come through."""

    where: str
    error: str
    rest: list[str]  # the names that its other statements make

    def reason(self, unmade: list[str]) -> str:
        """Why these names were not made, and what to do."""
        more = f" and {len(unmade) - _MOST_NAMES} more" if len(unmade) > _MOST_NAMES else ""
        return (
            f"the top level of the script stopped at {self.where}, with {self.error}, and did not make "
            f"{', '.join(unmade[:_MOST_NAMES])}{more}; that statement must work in a worker, too, or stand under "
            "`if __name__ == '__main__':`, or an initializer makes what tasks need"
        )


def run(home: str, filename: str, source: str, names: dict[str, Any], known: Known) -> Stopped | None:
    """Run it as `spawn` does.  Classes that are here already are not made a second time."""
    tree = ast.parse(source, filename)
    statements = list(tree.body)
    try:
        with _as_spawn_does(home, names, known):
            exec(_compiled(tree, filename, known), names)  # noqa: S102 (the user's own program)
    except BaseException as error:
        line = _line_of(error, names)
        rest = [each for each in statements if (each.end_lineno or each.lineno) >= line]
        text = (ast.get_source_segment(source, rest[0]) or "").partition("\n")[0] if rest else ""
        made = dict.fromkeys(name for each in rest if not isinstance(each, _COME_ANYWAY) for name in bound([each]))
        return Stopped(f"{filename}:{line}, `{text}`", f"{class_name(type(error))}: {message_of(error)}", list(made))
    return None


def _line_of(error: BaseException, names: dict[str, Any]) -> int:
    """The line of the top level at which it stopped; 0 if it did not begin."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is names and trace.tb_frame.f_code.co_name == "<module>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _compiled(tree: ast.Module, filename: str, known: Known) -> CodeType:
    """The top level, which bears that decorators refuse a class that is here already, as they have had it before."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.ClassDef) and known(node.name) is not None:
            node.decorator_list = [_bearing(decorator) for decorator in node.decorator_list]
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            todo += ast.iter_child_nodes(node)
    return compile(tree, filename, "exec", dont_inherit=True)


def _bearing(decorator: ast.expr) -> ast.expr:
    call = ast.Call(ast.Name(_BEARING, ast.Load()), [decorator], [])
    return ast.fix_missing_locations(ast.copy_location(call, decorator))


def _bear(decorator: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorated(cls: Any) -> Any:
        with contextlib.suppress(Exception):
            decorator(cls)
        return cls

    return decorated


@contextlib.contextmanager
def _as_spawn_does(home: str, names: dict[str, Any], known: Known) -> Iterator[None]:
    """The module has another name meanwhile, no process can be started, and no class is made a second time."""
    build, process = builtins.__build_class__, current_process()

    def build_once(body: Any, name: str, /, *bases: Any, **options: Any) -> Any:
        found = known(name) if body.__globals__ is names and body.__qualname__ == name else None
        return build(body, name, *bases, **options) if found is None else found

    names["__name__"] = AS_SPAWN_DOES if home == MAIN else home
    builtins.__build_class__ = build_once
    names[_BEARING] = _bear
    process._inheriting = True  # type: ignore[attr-defined]  # see `ordered_executor.__init__`
    try:
        yield
    finally:
        builtins.__build_class__ = build
        names.pop(_BEARING, None)
        del process._inheriting  # type: ignore[attr-defined]
