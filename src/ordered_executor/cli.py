"""The command `ordered-executor`, also `python -m ordered_executor`: a parallel, ordered pipe.

    $ ordered-executor mylogs:parse access.log >parsed.log
    $ ls *.wav | ordered-executor -- ffmpeg -i {} -y {.}.mp3

It runs a function, or a program, for each line of its input, in parallel, and writes the output in the order of the
input.  `--help` lists the options; the documentation has a page on the command.

It needs the extra: `pip install 'ordered-executor[cli]'`.
"""

from __future__ import annotations

import sys

MISSING = 2  # the exit status of a wrong call


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or with those of the program.  Return its exit status."""
    try:
        from ordered_executor._command.interface import parse  # noqa: PLC0415 (the extra may be missing)
        from ordered_executor._command.run import run  # noqa: PLC0415 (the same)

        options = parse(arguments)
        return options if isinstance(options, int) else run(options)
    except ImportError as error:
        if error.name not in {"click", "tqdm"}:
            raise
        return _say(f"the command needs {error.name}: pip install 'ordered-executor[cli]'", MISSING)
    except KeyboardInterrupt:  # before the run itself, which says more
        return _say("stopped by Ctrl-C", 130)


def _say(text: str, status: int) -> int:
    """One line on the standard error."""
    if sys.stderr is not None:
        print(f"ordered-executor: {text}", file=sys.stderr)
    return status
