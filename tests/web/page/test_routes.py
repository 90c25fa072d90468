"""The page over HTTP: what is shown, streamed, refused and done."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
import trio

from kombu_actors.fleet import Fleet, Message, Retry
from kombu_actors.fleet.program import Happened, SingleProcess
from kombu_actors.web.page import Token
from tests.fleet.support import eventually
from tests.web.support import PATIENCE, Answer, Site, counted, serving

TOKEN = "correct horse battery"
GOOD = {"authorization": f"Bearer {TOKEN}"}


def shop(name: str) -> Fleet:
    """A fleet whose handler raises what it is told to, until it is told to be well."""
    fleet = Fleet(f"memory://page-{name}", name="shop", retry=Retry(delays=()))
    fleet.well = False  # type: ignore[attr-defined]  # the test's own

    @fleet.consumer("orders", concurrency=2)
    async def charge(error: str, message: Message) -> None:
        if not fleet.well:  # type: ignore[attr-defined]
            raise {"KeyError": KeyError, "ValueError": ValueError}[error](f"no {error} today")

    return fleet


@attrs.frozen
class Shown:
    """A fleet that runs, with its page."""

    fleet: Fleet
    program: SingleProcess
    site: Site

    async def post(self, action: str, headers: dict[str, str], **form: str) -> Answer:
        """Try to act."""
        return await self.site.post(f"/page/actions/{action}", urlencode(form), **headers)


@asynccontextmanager
async def shown(name: str, *, acts: bool = True) -> AsyncIterator[Shown]:
    """Run it and serve it, as ``kombu-actors run --http`` does."""
    program = SingleProcess(shop(name))
    with trio.fail_after(3 * PATIENCE):
        async with serving(program, token=Token(TOKEN) if acts else None) as site, trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            yield Shown(program.fleet, program, site)
            program.stop("the test is over")


async def test_the_page_forbids_all_that_it_does_not_need() -> None:
    """Nothing inline, nothing from elsewhere, in nobody's frame, and kept by no cache."""
    async with shown("policy") as here:
        answer = await here.site.get("/")
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\sstyle=|<script>|\son\w+=|//(?!www\.w3\.org)", answer.body)
        for path in re.findall(r'(?:src|href)="(page/[^"]+)"', answer.body):
            file = await here.site.get(f"/{path}")
            assert file.status == 200
            assert "immutable" in file.headers["cache-control"]
            assert "default-src" in file.headers["content-security-policy"]
        assert (await here.site.get("/page/static/nothing.js")).status == 404


async def test_a_strangers_name_is_refused_everywhere() -> None:
    """What a site could have resolve to this machine reads nothing and does nothing here."""
    async with shown("rebinding") as here:
        for path in ("/", "/page/stream", "/page/letters?queue=orders", "/page/static/page.js"):
            answer = await here.site.get(path, host="evil.example")
            assert answer.status == 421, path
            assert "shop" not in answer.body
        assert (await here.post("pause", {**GOOD, "host": "evil.example"}, queue="orders")).status == 421
        looked = await here.site.get("/page/letters?queue=orders", sec_fetch_site="cross-site")
        assert looked.status == 403, "looking takes letters for a moment: no picture of another site does that"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({**GOOD, "origin": "http://evil.example"}, 403),
        ({**GOOD, "origin": "null"}, 403),
        ({**GOOD, "sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_who_may_not_act_does_nothing(headers: dict[str, str], status: int) -> None:
    """No token, a wrong one, or another site's script with the right one."""
    async with shown("refused") as here:
        answer = await here.post("pause", headers, queue="orders")
        assert answer.status == status
        assert TOKEN not in answer.body
        assert not here.fleet.snapshot().consumers[0].paused


async def test_without_leave_nobody_acts() -> None:
    """The page has no buttons then, and its paths refuse."""
    async with shown("readonly", acts=False) as here:
        assert (await here.post("pause", GOOD, queue="orders")).status == 403
        assert (await here.site.get("/page/actions/pause")).status == 405
        assert "data-action" not in (await here.site.get("/")).body


async def test_actions_are_done_and_put_on_record() -> None:
    """Pause, resume, restart; what can't be done says why, and is on record, too."""
    async with shown("acts") as here, here.program.events() as events:
        answer = await here.post("pause", GOOD, queue="orders")
        assert answer.json == {"well": True, "words": "paused orders"}
        assert here.fleet.snapshot().consumers[0].paused
        assert (await here.post("resume", GOOD, queue="orders")).status == 200
        assert not here.fleet.snapshot().consumers[0].paused
        assert (await here.post("restart", GOOD, path="work/consumers/orders", process="1")).status == 200
        for action, form in (
            ("pause", {"queue": "nothing"}),
            ("pause", {}),
            ("restart", {"path": "a/b"}),
            ("reload", {}),
            ("format", {"disk": "all"}),
            ("replay", {"queue": "orders", "limit": "0"}),
        ):
            answer = await here.post(action, GOOD, **form)
            assert answer.status == 409, action
            assert not answer.json["well"]
        records = list[dict[str, Any]]()
        while len(records) < 8:
            record = (await anext(aiter(events))).to_dict()
            if record["event"] == "operator_acted":
                records.append(record)
        assert [records[0]["action"], records[0]["who"], records[0]["process"]] == ["paused orders", "127.0.0.1", None]
        assert records[3]["action"].startswith("pause failed: ")
        answer = await here.site.post("/page/actions/pause", "x" * 20_000, **GOOD)
        assert answer.status == 400


async def test_dead_letters_are_grouped_by_error_and_replayed() -> None:
    """Only those of the group, at most as many as were said; handled well this time, they are gone."""
    async with shown("letters") as here, here.fleet.open() as client:
        for error in ("KeyError", "ValueError", "KeyError", "KeyError"):
            await client.publish("orders", error)
        async with here.fleet.dead_letters("orders") as dead:
            await counted(dead.count, 4)
            answer = await here.site.get("/page/letters?queue=orders")
            assert re.findall(r"<b>(\w+)</b> \u00d7 (\d)", answer.body) == [("KeyError", "3"), ("ValueError", "1")]
            here.fleet.well = True  # type: ignore[attr-defined]
            answer = await here.post("replay", GOOD, queue="orders", error="KeyError", limit="2")
            assert answer.json["words"] == "orders: 2 of 3 dead letters replayed; 1 more were not looked at of KeyError"
            await counted(dead.count, 2)
            await eventually(lambda: here.fleet.snapshot().consumers[0].count.acked == 2)


async def pieces(stream: trio.SocketStream) -> AsyncGenerator[dict[str, Any]]:
    """What comes over a stream that is compressed, piece by piece."""
    inflate, head, rest = zlib.decompressobj(31), b"", ""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some()
    head, _, body = head.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    while True:
        while body:
            size, _, body = body.partition(b"\r\n")
            while len(body) < int(size, 16) + 2:
                body += await stream.receive_some()
            rest += inflate.decompress(body[: int(size, 16)]).decode()
            body = body[int(size, 16) + 2 :]
        *events, rest = rest.split("\n\n")
        for event in events:
            if event.startswith("data: "):
                yield json.loads(event.removeprefix("data: "))
        body = await stream.receive_some()


async def test_changes_come_by_themselves() -> None:
    """Whoever has the page is told of rows that differ only, compressed."""
    async with shown("stream") as here:
        stamp = re.findall(r'data-stamp="([^"]+)"', (await here.site.get("/")).body)[0]
        stream = await here.site.open(f"/page/stream?since={stamp}", accept_encoding="gzip")
        async with stream, aclosing(pieces(stream)) as told:
            await here.fleet.pause("orders")
            async for piece in told:
                rows = {id: html for _, id, _, html in piece["put"]}
                if "paused" in rows.get("queue-orders", ""):
                    break
            assert not any("<thead" in html for html in rows.values())


async def test_who_comes_from_nowhere_is_told_everything() -> None:
    """As after a restart of the program: the page's frame is unknown then."""
    async with shown("nowhere") as here:
        stream = await here.site.open("/page/stream?since=other-7", accept_encoding="gzip")
        async with stream, aclosing(pieces(stream)) as told:
            ids = set[str]()
            async for piece in told:
                ids |= {id for _, id, _, _ in piece["put"]}
                if "frame" in piece:
                    break
            assert {"verdict-line", "queue-orders", "process-1", "actor-1-work/consumers/orders"} <= ids


async def test_a_mistake_in_the_page_is_logged_and_the_fleet_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """An event of a kind that says nonsense, from whatever version of a worker."""
    async with shown("mistake") as here:
        here.program.tell(Happened(path="", at=0.0, wall=0.0, process=1, record={"event": "x", "wall": "nonsense"}))
        await eventually(lambda: "could not take in an event" in caplog.text)
        assert here.program.status().ready
        assert (await here.site.get("/")).status == 200
