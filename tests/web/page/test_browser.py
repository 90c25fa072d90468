"""The page as people have it: in a real browser, over faults, by keyboard, in the dark and on a phone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio

from kombu_actors.broker import QueueSpec
from kombu_actors.fleet import Fleet, Retry
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.web.page import Token
from tests.fleet.support import eventually
from tests.support.brokers import RedisNode
from tests.support.browser import Tab, open_browser
from tests.support.proxy import FaultProxy
from tests.web.support import counted, serving

TOKEN = "correct horse battery"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DEADLINE = 150.0
"""Seconds for a whole test, on a busy machine; alone each takes a few."""


@attrs.frozen
class Seen:
    """A program that runs, and a browser that shows its page."""

    program: SingleProcess
    tab: Tab
    url: str

    def is_clean(self) -> None:
        """Nothing was asked of another host, nothing was forbidden by the policy, no script failed."""
        hosts = {urlsplit(url).netloc for url in self.tab.requests if not url.startswith("data:")}
        assert hosts == {urlsplit(self.url).netloc}
        assert self.tab.complaints == []
        assert self.tab.loads == 1, "it was loaded once, and has been kept up to date since"


@asynccontextmanager
async def seen(fleet: Fleet, *, acts: bool = False, **screen: Any) -> AsyncIterator[Seen]:
    """Run a fleet, and open a browser; the test goes to the page."""
    program = SingleProcess(fleet)
    with trio.fail_after(DEADLINE):
        async with (
            serving(program, token=Token(TOKEN) if acts else None) as site,
            open_browser() as browser,
            browser.tab(**screen) as tab,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(partial(program.run, signals=False))
            yield Seen(program, tab, f"http://127.0.0.1:{site.port}/")
            program.stop("the test is over")


async def test_an_outage_is_seen_with_its_countdown_and_so_is_the_recovery(
    redis_server: RedisNode, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """The page is opened while the broker is away: what fails, when it is tried again; then it is ready by itself."""
    redis_server.flush()
    proxy = fault_proxy(redis_server.port)
    fleet = Fleet(f"redis://127.0.0.1:{proxy.port}/0", name="shop")

    @fleet.consumer("orders")
    async def charge(order: int) -> None: ...

    async with seen(fleet) as here:
        tab = here.tab
        await trio.to_thread.run_sync(proxy.refuse)
        await trio.to_thread.run_sync(proxy.reset)
        await tab.goto(here.url)
        await tab.wait_for("document.querySelector('#verdict strong').textContent === 'degraded'")
        await tab.wait_for("document.querySelector('#why').textContent.includes('Connection refused')")
        first, second = await tab.evaluate(COUNTDOWN)
        assert first > second, "it counts in the browser"
        await tab.wait_for("document.querySelector('#queue-orders').textContent.includes('waits for the broker')")
        await tab.wait_for("document.querySelector('#tree .warn time[data-until], #tree .wait time')")
        assert (await tab.evaluate("document.title")).startswith("degraded")

        await trio.to_thread.run_sync(proxy.heal)
        await tab.wait_for("document.querySelector('#verdict strong').textContent === 'ready'")
        assert await tab.text("#why") == ""
        await tab.wait_for("document.querySelector('#timeline').textContent.includes('is back')")
        await tab.wait_for("document.querySelector('#queue-orders').textContent.includes('consuming')")
        here.is_clean()


COUNTDOWN = """new Promise((resolve) => {
    const read = () => document.querySelector('#why time[data-until]');
    const left = (time) => parseFloat(time.textContent.replace('in ', ''));
    let before = null;
    const look = () => {
        const time = read();
        const now = time && time.textContent.startsWith('in ') ? [time.dataset.until, left(time)] : null;
        if (before && now && now[0] === before[0] && now[1] < before[1]) resolve([before[1], now[1]]);
        else { if (!before || !now || now[0] !== before[0]) before = now; setTimeout(look, 50); }
    };
    look();
})"""
"""What one countdown says, and what it says later."""


async def test_dead_letters_are_replayed_by_keyboard(amqp_url: str) -> None:
    """The token, the look, the group, the question: Enter each time; the messages are handled then."""
    fleet = Fleet(amqp_url, name="shop", retry=Retry(delays=()))
    declined, charged = True, list[int]()

    @fleet.consumer("orders")
    async def charge(order: int) -> None:
        if declined:
            raise PermissionError(EVIL)
        charged.append(order)

    async with seen(fleet, acts=True) as here, fleet.open() as client, fleet.dead_letters("orders") as dead:
        tab = here.tab
        for order in range(3):
            await client.publish("orders", order)
        await counted(dead.count, 3)
        declined = False
        await tab.goto(here.url)
        await tab.evaluate("document.querySelector('#unlock input').focus()")
        await tab.type(TOKEN)
        await tab.press("Enter")
        await tab.wait_for("document.querySelector('#outcome').textContent.includes('unlocked')")
        await tab.wait_for("document.querySelector('#dead-orders .look')")
        await tab.evaluate("document.querySelector('#dead-orders .look').focus()")
        await tab.press("Enter")
        await tab.wait_for("document.querySelector('#groups').textContent.includes('PermissionError')")
        await tab.press("Tab")  # from the group, which has the focus, to its button
        assert await tab.evaluate("document.activeElement.dataset.action") == "replay"
        await tab.press("Enter")
        await tab.wait_for("document.querySelector('#sure').open")
        await tab.evaluate("document.querySelector('#sure [value=yes]').focus()")
        await tab.press("Enter")
        await tab.wait_for("document.querySelector('#outcome').textContent.includes('3 of 3 dead letters replayed')")
        await eventually(lambda: len(charged) == 3)
        assert await dead.count() == 0
        await tab.wait_for("!document.querySelector('#dead-orders')")
        await tab.wait_for("document.querySelector('#timeline').textContent.includes('operator: orders: 3 of 3')")
        here.is_clean()


async def test_the_page_can_be_used_by_everybody() -> None:
    """axe finds nothing, in the light, the dark, on a phone, during a fault; nothing is wider than the screen."""
    fleet = evil_fleet("axe")
    async with seen(fleet, acts=True) as here, fleet.open() as client:
        tab = here.tab
        for number in range(6):
            await client.publish(EVIL, number, message_id=f"{EVIL}{number}")
        await tab.goto(here.url)
        await tab.wait_for("document.querySelector('#letters tr')")
        await tab.evaluate("document.querySelector('#letters .look').click()")
        await tab.wait_for("document.querySelector('#groups li')")
        await tab.evaluate((files("axe_core_python") / "axe.min.js").read_text())
        for width, height, dark in ((1280, 900, False), (1280, 900, True), (390, 844, False), (320, 640, True)):
            await tab.look_as(width=width, height=height, dark=dark)
            found = json.loads(await tab.evaluate(AXE))
            assert found == [], (width, dark, found)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await tab.look_as(width=1280, height=900, still=True)
        assert await tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        assert not await tab.evaluate("document.querySelector('main img, main script')")
        assert EVIL in await tab.text("#queues")
        here.is_clean()


AXE = """axe.run().then((results) => JSON.stringify(results.violations.map((one) =>
    [one.id, one.help, one.nodes.slice(0, 3).map((node) => [node.html.slice(0, 300), node.failureSummary])])))"""


def evil_fleet(name: str) -> Fleet:
    """Its queue's name, its messages' ids, keys and errors are markup; every second message is dead-lettered."""
    fleet = Fleet(f"memory://{name}", name=EVIL[:40], retry=Retry(delays=()), drain_timeout=0.1)

    @fleet.consumer(QueueSpec(name=EVIL), concurrency=2, key=lambda number: f"{EVIL}{number}")
    async def handle(number: int) -> None:
        if number % 2:
            raise ValueError(EVIL)
        await trio.sleep_forever()

    @fleet.every(3600)
    async def sweep() -> None: ...

    return fleet


async def test_the_tree_folds_and_is_searched() -> None:
    """By keyboard; what was folded stays so while the page is kept up to date."""
    fleet = Fleet("memory://tree", name="shop")
    for number in range(40):
        register(fleet, f"queue-{number}")
    async with seen(fleet) as here:
        tab = here.tab
        await tab.goto(here.url)
        await tab.wait_for(shown("actor-1-work/consumers"))
        assert not await tab.evaluate(shown("actor-1-work/consumers/queue-7")), "forty that are well are folded"
        await tab.evaluate("document.querySelector('[id=\"actor-1-work/consumers\"] .fold').focus()")
        await tab.press("Enter")
        await tab.wait_for(shown("actor-1-work/consumers/queue-7"))
        await fleet.restart("work/consumers/queue-7")
        await tab.wait_for(
            "document.querySelector('[id=\"actor-1-work/consumers/queue-7\"] .figure').textContent === '2'"
        )
        assert await tab.evaluate(shown("actor-1-work/consumers/queue-8"))
        await tab.evaluate("document.querySelector('#tree-search').focus()")
        await tab.type("QUEUE-31")
        await tab.wait_for(f"!({shown('actor-1-work/consumers/queue-8')})")
        assert await tab.evaluate(shown("actor-1-work/consumers/queue-31"))
        assert await tab.evaluate(shown("actor-1-work"))
        assert (await tab.text("#tree-count")).endswith("shown")
        here.is_clean()


def shown(id: str) -> str:
    """Whether a row is to be seen, as an expression."""
    return f"document.getElementById({json.dumps(id)})?.hidden === false"


def register(fleet: Fleet, queue: str) -> None:
    """A consumer."""

    @fleet.consumer(queue)
    async def handle(number: int) -> None: ...


async def test_a_thousand_busy_actors_stream_at_most_20_kilobytes_a_second() -> None:
    """Two hundred queues, each with its consumer, channel and their supervisors, all of whose figures change."""
    fleet = Fleet("memory://thousand", name="shop")
    for number in range(200):
        register(fleet, f"queue-{number}")
    async with seen(fleet) as here, fleet.open() as client, trio.open_nursery() as nursery:

        async def publish() -> None:
            while True:
                for number in range(200):
                    await client.publish(f"queue-{number}", number)

        nursery.start_soon(publish)
        await here.tab.goto(here.url)
        await here.tab.wait_for("document.querySelector('#tree').rows.length >= 1000")
        before, began = here.tab.received, trio.current_time()
        await trio.sleep(5)
        rate = (here.tab.received - before) / (trio.current_time() - began)
        assert 100 < rate <= 20_000
        nursery.cancel_scope.cancel()
        here.is_clean()
