"""The command line, by click: options stand anywhere, and shells complete them.

Click and not typer, which is click with annotations in front and rich behind: it brings more to load, and its help
pages do not fit a screen.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from . import completion
from .ends import WRONG
from .halting import NEVER, Halt, parse_halt
from .help import PAGE
from .options import PIPE_BYTES, WINDOW_BYTES, Options, Work, parse_size
from .report import NAME

T = TypeVar("T")


class _Parsed(click.ParamType[Any]):
    """A value that a function of ours reads."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Target(click.ParamType[str]):
    """A file, or the function where none was named before."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(each) for each in completion.functions(incomplete)]
        return found if ":" in incomplete else [*found, CompletionItem(incomplete, type="file")]


class _Command(click.Command):
    """With a help page of ours, and a program behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.obj, args = args[at + 1 :], args[:at]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        return PAGE.rstrip("\n")


class _AtLeast(click.types.IntRange):
    name = "number"


_size = _Parsed("size", parse_size)
_count = _AtLeast(min=1)
_path = click.Path(dir_okay=False)


def _option(*names: str, **settings: Any) -> Callable[[T], T]:
    return click.option(*names, **settings)  # type: ignore[return-value]


def _flag(*names: str) -> Callable[[T], T]:
    return _option(*names, is_flag=True)


def _print_completion(ctx: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell is None:
        return
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.command, {}, NAME, "_ORDERED_EXECUTOR_COMPLETE").source())
    ctx.exit()


_SETTINGS = {"help_option_names": ["-h", "--help"], "allow_interspersed_args": True}


@click.command(cls=_Command, context_settings=_SETTINGS)
@click.argument("targets", nargs=-1, type=_Target())
@_flag("--bytes", "as_bytes")
@_flag("--csv")
@_flag("--tsv")
@_flag("--json", "as_json")
@_flag("-0", "--null")
@_option("--lines", type=_count)
@_option("--block", type=_size)
@_flag("--pipe")
@_flag("--shell")
@_option("--dead-letter", type=_path)
@_option("--retries", type=_AtLeast(min=0), default=0)
@_option("--timeout", type=click.FloatRange(min=0, min_open=True))
@_option("--halt", type=_Parsed("policy", parse_halt), default=NEVER)
@_flag("--stop")
@_option("--joblog", type=_path)
@_flag("--resume")
@_flag("--resume-failed")
@_flag("--progress")
@_option("--trace", type=_path)
@_option("-o", "--output", type=_path)
@_flag("--tag")
@_option("--results", type=click.Path(file_okay=False))
@_flag("--dry-run")
@_option("-j", "--workers", type=_count)
@_option("--window-bytes", type=_size, default=WINDOW_BYTES)
@_option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
)
@click.version_option(version("ordered-executor"), prog_name=NAME, message="%(prog)s %(version)s")
@click.pass_context
def _command(ctx: click.Context, /, targets: tuple[str, ...], **given: Any) -> Options:
    program = ctx.obj
    _check(program, targets, given)
    function, files = (None, targets) if program is not None else (targets[0], targets[1:])
    halt: Halt = Halt("now") if given["stop"] else given["halt"]
    if given["pipe"] and not given["lines"]:
        given["block"] = given["block"] or PIPE_BYTES
    forms = {"as_bytes": "bytes", "csv": "csv", "tsv": "tsv", "as_json": "json"}
    work = Work(
        function=function,
        program=tuple(word.encode("utf-8", "surrogateescape") for word in program or ()),
        form=next((form for name, form in forms.items() if given[name]), "text"),
        log=given["joblog"] is not None,
        tell_failures=halt.when != "never",
        **{name: given[name] for name in _WORK},
    )
    return Options(work, files or ("-",), halt=halt, **{name: given[name] for name in _RUN})


_WORK = ("null", "lines", "block", "pipe", "shell", "timeout", "retries", "tag", "results", "dry_run")
_RUN = (
    "workers",
    "window_bytes",
    "progress",
    "joblog",
    "resume",
    "resume_failed",
    "dead_letter",
    "output",
    "trace",
)


def _check(program: list[str] | None, targets: tuple[str, ...], given: dict[str, Any]) -> None:
    """What does not go together; raises `click.UsageError`."""
    forms = [f"--{name.removeprefix('as_')}" for name in ("as_bytes", "csv", "tsv", "as_json") if given[name]]
    grouped = [f"--{name}" for name in ("lines", "block") if given[name] is not None]
    if program is None and not targets:
        raise click.UsageError("MODULE:FUNCTION is missing, or -- and a program")
    if program is not None and not program:
        raise click.UsageError("there is no program behind --")
    if program is None and ":" not in targets[0]:
        raise click.UsageError(f"{targets[0]!r} is not of the form MODULE:FUNCTION; a program stands behind --")
    _exclude(forms)
    _exclude(grouped)
    _exclude([f"--{name}" for name in ("stop",) if given[name]] + ["--halt"] * (given["halt"] != NEVER))
    if grouped and forms not in ([], ["--bytes"]):
        raise click.UsageError(f"{grouped[0]} and {forms[0]} do not go together: a block is no row or value")
    if given["null"] and forms in (["--csv"], ["--json"]):
        raise click.UsageError(f"--null and {forms[0]} do not go together")
    if program is None:
        _need_program([f"--{name}" for name in ("pipe", "shell") if given[name]])
    elif forms in (["--json"], ["--bytes"]):
        raise click.UsageError(f"{forms[0]} is for functions: a program gets the bytes of the line")
    elif given["block"] is not None and not given["pipe"]:
        raise click.UsageError("--block is too much for an argument of a program: take --pipe with it")
    for name in ("resume", "resume_failed"):
        if given[name] and given["joblog"] is None:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --joblog, which says what is done")


def _exclude(names: list[str]) -> None:
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} do not go together")


def _need_program(names: list[str]) -> None:
    if names:
        raise click.UsageError(f"{names[0]} is for programs, which stand behind --")


def parse(arguments: list[str] | None) -> Options | int:
    """Read the command line; or the exit status, if all is said (`--help`, or a wrong call)."""
    try:
        options = _command.main(
            arguments, prog_name=NAME, standalone_mode=False, complete_var="_ORDERED_EXECUTOR_COMPLETE"
        )
    except click.UsageError as error:
        click.echo(f"{NAME}: {error.format_message()} (see --help)", err=True)
        return WRONG
    except click.ClickException as error:
        error.show()
        return WRONG
    except click.Abort:
        return 130
    return options if isinstance(options, Options) else 0
