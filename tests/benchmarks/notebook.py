"""The picture of the bar in a notebook: `python -m tests.benchmarks.notebook FILE.png` makes it.

A kernel runs the cells; when the bar says what the head does, the notebook is saved, and a browser shows it as it is.
Needs `notebook`, `ipywidgets` and `nbclient`, and Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from tornado.websocket import websocket_connect

CELLS = [
    """\
import time
from ordered_executor import OrderedProcessPoolExecutor
from ordered_executor.progress import progress

def parse(seconds):
    time.sleep(seconds)""",
    """\
with OrderedProcessPoolExecutor(2) as executor, progress(executor, total=60, desc="parse"):
    for number in range(60):
        executor.submit(parse, 8 if number == 20 else 0.1)
    for _ in executor.results():
        pass""",
]


async def run(path: Path) -> None:
    """Run the cells, and save the notebook as it is while the head is slow."""
    notebook: Any = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])  # type: ignore[no-untyped-call]
    client: Any = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    async with client.async_setup_kernel():
        await client.async_execute_cell(notebook.cells[0], 0)
        running = asyncio.create_task(client.async_execute_cell(notebook.cells[1], 1))
        while "head 20: parse(8), 3 s" not in _texts(client.widget_state):
            await asyncio.sleep(0.1)
            assert not running.done()
        client.set_widgets_metadata()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        await running


def _texts(states: dict[str, Any]) -> str:
    """What the widgets say, with plain spaces."""
    return " ".join(word for state in states.values() for word in str(state.get("value")).split())


def show(path: Path, picture: Path, width: int, height: int) -> None:
    """Have a browser show it, and take its picture."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    subprocess.run([sys.executable, "-m", "jupyter", "trust", path.name], cwd=path.parent, check=True)
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    with subprocess.Popen([sys.executable, "-m", "notebook", *options], cwd=path.parent) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api")
            _take_picture(f"http://127.0.0.1:{port}/notebooks/{path.name}", picture, width, height)
        finally:
            server.terminate()


def _take_picture(url: str, picture: Path, width: int, height: int) -> None:
    """Have a browser open the page, and take its picture when the bar is there."""
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--remote-debugging-port=9222"]
    command = [str(shutil.which("chromium")), *options, f"--window-size={width},{height}", url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
        try:
            _wait_for("http://127.0.0.1:9222/json")
            with urllib.request.urlopen("http://127.0.0.1:9222/json") as answer:
                page = next(each for each in json.load(answer) if each["type"] == "page")
            picture.write_bytes(asyncio.run(_ask(page["webSocketDebuggerUrl"])))
        finally:
            browser.terminate()


async def _ask(debugger: str) -> bytes:
    page = await websocket_connect(debugger, max_message_size=1 << 28)
    number = 0

    async def call(method: str, **parameters: Any) -> Any:
        nonlocal number
        number += 1
        await page.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(str(await page.read_message()))).get("id") != number:
            pass
        return answer["result"]

    until = time.monotonic() + 90
    there = "document.querySelector('.jp-OutputArea .widget-hbox, .jp-OutputArea .jupyter-widgets') !== null"
    while time.monotonic() < until:
        found = await call("Runtime.evaluate", expression=there)
        if found["result"].get("value"):
            break
        await asyncio.sleep(0.5)
    # The kernel of the page is another one than the bar's, which each part of the bar says by a mark.
    style = ".jupyter-widgets-disconnected::before { content: none !important }"
    added = f"document.head.appendChild(document.createElement('style')).textContent = {json.dumps(style)}"
    await call("Runtime.evaluate", expression=added)
    await asyncio.sleep(2)
    taken = await call("Page.captureScreenshot", format="png")
    return base64.b64decode(taken["data"])


def _wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(url)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.notebook", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(1000, 570), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JUPYTER_CONFIG_DIR"] = folder
        path = Path(folder, "parse.ipynb")
        asyncio.run(run(path))
        show(path, options.picture, *options.size)


if __name__ == "__main__":
    main()
