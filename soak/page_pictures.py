"""Pictures of the status page for the documentation: ``python -m soak.page_pictures [FOLDER]``.

A shop of three processes on a Redis of its own works for a while, with declined cards and a stuck handler; then Redis
is killed, and the page is looked at in the light, in the dark and on a phone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from tests.support.brokers import RedisNode, free_port
from tests.support.browser import Tab, open_browser
from tests.support.processes import answers, wait_until

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
TOKEN = "the token of these pictures"
WORK, FAULT = 75.0, 9.0
"""Seconds that the shop works, and that Redis is away, before the pictures."""
HEIGHT = 1500.0
"""Pixels of a page that are shown."""


@contextmanager
def shop(url: str, port: int) -> Iterator[None]:
    """Run it for the block."""
    flags = ["run", "soak._page_shop:fleet", "-p", "3", "--http", str(port), "--allow-actions", "-l", "error"]
    environment = {**os.environ, "SHOP_URL": url, "KOMBU_ACTORS_TOKEN": TOKEN, "KOMBU_ACTORS_DRAIN_TIMEOUT": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "kombu_actors", *flags], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Wait until the page is served."""

    def served() -> bool:
        with suppress(ConnectionRefusedError):
            return answers(port, b"GET /livez HTTP/1.0\r\n\r\n", (b"HTTP/1",))
        return False

    wait_until(served, timeout=60, waiting_for="the page")


async def take(folder: Path, node: RedisNode, port: int) -> None:
    """Look at it."""
    async with open_browser() as browser, browser.tab(height=int(HEIGHT)) as tab:
        await trio.to_thread.run_sync(wait_for, port)
        await tab.goto(f"http://127.0.0.1:{port}/")
        await tab.wait_for("document.querySelector('#verdict strong').textContent === 'ready'")
        await trio.sleep(WORK)
        await letters(tab, folder)
        await trio.to_thread.run_sync(node.kill9)
        await tab.wait_for("document.querySelector('#why time[data-until]')")
        await trio.sleep(FAULT)
        await tab.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        await tab.picture(folder / "status-outage.png", height_max=HEIGHT)
        await tab.look_as(width=1280, height=int(HEIGHT), dark=True)
        await tab.picture(folder / "status-outage-dark.png", height_max=HEIGHT)
        await tab.look_as(width=390, height=844)
        await tab.picture(folder / "status-outage-phone.png", height_max=1700)


async def letters(tab: Tab, folder: Path) -> None:
    """The dead letters of one queue, before they are replayed."""
    await tab.wait_for("document.querySelector('#dead-orders .look')")
    await tab.evaluate("document.querySelector('#dead-orders .look').click()")
    await tab.wait_for("document.querySelector('#groups li')")
    await tab.look_as(width=1280, height=760)
    await tab.evaluate("document.querySelector('#letters-panel').scrollIntoView({behavior: 'instant'})")
    await tab.picture(folder / "status-letters.png", whole=False)
    await tab.look_as(width=1280, height=int(HEIGHT))


def main() -> None:
    """Take them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    node, port = RedisNode(Path(tempfile.mkdtemp(prefix="ka-"))), free_port()
    node.start()
    try:
        with shop(node.url(), port):
            trio.run(take, folder, node, port)
    finally:
        if node.running:
            node.kill9()


if __name__ == "__main__":
    main()
