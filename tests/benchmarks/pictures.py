"""The pictures of the recipes: `python -m tests.benchmarks.pictures FOLDER` makes `trace.svg` and `bar.svg` there.

The bar is that of a real terminal: tmux runs this module's `--bar`, and what it shows is put into a picture.
"""

from __future__ import annotations

import argparse
import html
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ordered_executor import OrderedProcessPoolExecutor, timeline, trace

COLUMNS, LINES = 118, 4
LETTER, LINE = 7.2, 17  # of 12 px, in pixels


def work(seconds: float) -> None:
    """Take so long; long ones fail, so that the picture has some."""
    time.sleep(seconds)
    if seconds > 0.2:
        raise ValueError(seconds)


def slow(seconds: float) -> float:
    """Take so long."""
    time.sleep(seconds)
    return seconds


def draw_trace(path: Path) -> list[str]:
    """Trace a job whose window is too small, and draw it; return what the timeline says."""
    lengths = random.Random(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        OrderedProcessPoolExecutor(2, window=16, unseen_errors="ignore") as ex,
    ):
        list(ex.map(slow, [0.1, 0.1]))  # the workers are warm
        file = Path(folder, "job.json")
        with trace(ex, file):
            for number in range(500):
                ex.submit(work, 0.25 if number % 150 == 20 else lengths.random() * 0.006)
            list(ex.results(errors="yield"))
        seen = timeline.read(file)
        timeline.draw(seen, path)
        return timeline.explain(seen)


def show_bar() -> None:
    """A job with a slow head, under a bar."""
    from ordered_executor.progress import progress

    with OrderedProcessPoolExecutor(2) as executor, progress(executor, total=60, desc="parse", ncols=COLUMNS - 2):
        for number in range(60):
            executor.submit(slow, 8 if number == 20 else 0.1)
        for _ in executor.results():
            pass


def draw_bar(path: Path) -> str:
    """Run it in tmux, and draw what the terminal shows when the head has been slow for some time; return that."""
    tmux = [str(shutil.which("tmux")), "-L", "pictures"]
    command = f"{sys.executable} -m tests.benchmarks.pictures --bar"
    subprocess.run([*tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), command], check=True)
    try:
        until = time.monotonic() + 60
        while "head 20" not in (screen := _screen(tmux)) and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(1.5)
        screen = _screen(tmux) or screen
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    path.write_text(picture_of(screen))
    return screen


def _screen(tmux: list[str]) -> str:
    return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False).stdout


def picture_of(screen: str) -> str:
    """A terminal as SVG."""
    lines = screen.rstrip().split("\n")
    width, height = COLUMNS * LETTER + 16, len(lines) * LINE + 16
    text = "".join(
        f'<text x="8" y="{20 + number * LINE}" xml:space="preserve">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    style = 'font-family="monospace" font-size="12" fill="#eeeeee"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}">'
        f'<rect width="100%" height="100%" rx="6" fill="#222222"/><g {style}>{text}</g></svg>\n'
    )


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.pictures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where the pictures go")
    parser.add_argument("--bar", action="store_true", help="only show the bar, in this terminal")
    options = parser.parse_args()
    if options.bar:
        show_bar()
    elif options.folder is not None:
        print("\n".join(draw_trace(options.folder / "trace.svg")))
        print(draw_bar(options.folder / "bar.svg"))
    else:
        parser.error("a folder, or --bar")


if __name__ == "__main__":
    main()
