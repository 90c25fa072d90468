"""A headless Chromium, driven over a pipe in its own protocol (Chrome DevTools Protocol).

Nothing of it may reach another host: what it asks for is on record, and its own services are switched off.
"""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

PROGRAM = "/usr/bin/chromium"
PATIENCE = 30.0
"""Seconds for a browser on a busy machine."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe", "--no-startup-window"),
    *(
        "--disable-features=OptimizationHints,MediaRouter,Translate",
        "--no-proxy-server",
        "--disable-domain-reliability",
    ),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
ONTO = (
    "import fcntl, os, sys; high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]; "
    "os.dup2(high[0], 3); os.dup2(high[1], 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""Chromium reads commands from descriptor 3 and answers on 4."""
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), " ": (32, " ")}


class BrowserError(Exception):
    """The browser refused, or a script in the page threw."""


class Browser:
    """One Chromium; commands go out and answers come in over its pipe."""

    def __init__(self, out: trio.lowlevel.FdStream, back: trio.lowlevel.FdStream) -> None:
        self._out = out
        self._back = back
        self._number = 0
        self._answers: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = {}
        self._heard: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command's result; raises ``BrowserError``."""
        self._number += 1
        number, event, box = self._number, trio.Event(), list[dict[str, Any]]()
        self._answers[number] = event, box
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        with trio.fail_after(PATIENCE):
            await self._out.send_all(json.dumps(message).encode() + b"\0")
            await event.wait()
        (answer,) = box
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def read(self) -> None:
        """Take in what it says, until it has ended."""
        rest = b""
        async for chunk in self._back:
            *messages, rest = (rest + chunk).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            event, box = self._answers.pop(message["id"])
            box.append(message)
            event.set()
        elif (hear := self._heard.get(message.get("sessionId", ""))) is not None:
            hear(message["method"], message["params"])

    @asynccontextmanager
    async def tab(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> AsyncIterator[Tab]:
        """A new tab, with cookies and storage of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))["sessionId"]
        tab = Tab(self, session)
        self._heard[session] = tab.heard
        for domain in ("Page", "Runtime", "Network", "Log"):
            await tab.call(f"{domain}.enable")
        await tab.look_as(width=width, height=height, dark=dark)
        try:
            yield tab
        finally:
            with trio.move_on_after(5, shield=True):
                await self.call("Target.disposeBrowserContext", browserContextId=context)
            del self._heard[session]


@attrs.define(eq=False)
class Tab:
    """One page."""

    browser: Browser
    session: str
    requests: list[str] = attrs.field(factory=list)
    """What it has asked for."""
    complaints: list[str] = attrs.field(factory=list)
    """Errors of scripts, of the console, and of the page's policy."""
    received: int = 0
    """Bytes of bodies and streams, as they came over the network."""
    loads: int = 0
    _loaded: trio.Event = attrs.field(factory=trio.Event)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this page."""
        return await self.browser.call(method, self.session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """What the page tells."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.dataReceived":
            self.received += params["encodedDataLength"]
        elif method == "Page.loadEventFired":
            self.loads += 1
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def look_as(self, *, width: int, height: int, dark: bool = False, still: bool = False) -> None:
        """Be a screen of that size, of a reader with these wishes."""
        phone = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        wishes = {"prefers-color-scheme": "dark" if dark else "light"}
        if still:
            wishes["prefers-reduced-motion"] = "reduce"
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def goto(self, url: str) -> None:
        """Load a page, to its ``load`` event."""
        self._loaded = trio.Event()
        await self.call("Page.navigate", url=url)
        with trio.fail_after(PATIENCE):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, of its promise if it is one."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until an expression is true, looked at each time that the page changes, and 20 times a second."""
        script = f"""new Promise((resolve) => {{
            const end = Date.now() + {seconds * 1000:.0f};
            const look = () => {{
                const value = (() => {{ try {{ return {expression}; }} catch {{ return null; }} }})();
                if (value || Date.now() > end) resolve(value instanceof Node ? true : value); else setTimeout(look, 50);
            }};
            look();
        }})"""
        with trio.fail_after(seconds + PATIENCE):
            value = await self.evaluate(script)
        assert value, f"not within {seconds} s: {expression}\n{await self.text()}"
        return value

    async def text(self, selector: str = "body") -> str:
        """What is read there."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        where = await self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center', "
            "behavior: 'instant'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1
            )  # fmt: skip

    async def press(self, key: str) -> None:
        """Press a key where the focus is."""
        code, text = KEYS[key]
        more = {"text": text} if text else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def type(self, text: str) -> None:
        """Type where the focus is."""
        await self.call("Input.insertText", text=text)

    async def picture(self, path: Path | str, *, whole: bool = True, height_max: float = math.inf) -> None:
        """A PNG of the page, whole or what the screen shows."""
        more: dict[str, Any] = {}
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height_max), "scale": 1}
            more = {"captureBeyondViewport": True, "clip": clip}
        answer = await self.call("Page.captureScreenshot", format="png", **more)
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """A Chromium for the block, with an empty profile."""
    profile = tempfile.mkdtemp(prefix="ka-chromium-")
    to_it, from_us = os.pipe()
    from_it, to_us = os.pipe()
    process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
        [sys.executable, "-ISc", ONTO, str(to_it), str(to_us), PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_it, to_us),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_it)
    os.close(to_us)
    out, back = trio.lowlevel.FdStream(from_us), trio.lowlevel.FdStream(from_it)
    try:
        async with out, back, trio.open_nursery() as nursery:
            browser = Browser(out, back)
            nursery.start_soon(browser.read)
            await browser.call("Browser.getVersion")
            yield browser
            nursery.cancel_scope.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)
