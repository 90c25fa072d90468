"""The session: one live link and the tasks that keep it alive.

ONE_FOR_ALL without restarts: socket, reader, writer and heartbeat share their fate, and their
death is one event for the connection above.  ``closer`` starts last and so is stopped first:
it says goodbye while reader and writer still run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import islice

import trio

from .._values.endpoint import Endpoint, EndpointSelector, LinkOptions
from ..errors import BrokerUnreachable, ConnectionClosed, ConnectionLost
from ..supervisors import ActorContext, ChildSpec, RestartLimit, Strategy, SupervisorSpec
from ..supervisors._interrupts import protected
from ..transport._contract import Link, Transport
from ._waiting import CLOSE_GRACE, Farewells

logger = logging.getLogger("kombu_actors.session")

ROLE_GRACE = 0.5
"""Seconds for reader, writer and heartbeat to notice that the link is closed."""


@protected
class Dialler:
    """Lets callers decide when to dial: while anyone holds it, each dial of one endpoint needs a permission.

    This is how kombu's ``ensure`` and ``ensure_connection``, whose attempts and intervals are the
    caller's, and supervision, whose are its own, never dial at cross purposes.
    """

    def __init__(self) -> None:
        self._holders: set[object] = set()
        self._permissions = 0
        self._lot = trio.lowlevel.ParkingLot()
        self._answers = trio.lowlevel.ParkingLot()
        self._answer: BaseException | None = None

    def hold(self, holder: object) -> None:
        """Take the dialling over from supervision."""
        self._holders.add(holder)

    def let_go(self, holder: object) -> None:
        """Give it back; again does no harm."""
        self._holders.discard(holder)
        self._lot.unpark_all()

    @property
    def held(self) -> bool:
        """Whether callers decide."""
        return bool(self._holders)

    async def permission(self) -> bool:
        """Wait until dialling is allowed; True when by hand, for one endpoint."""
        while self._holders and not self._permissions:
            await self._lot.park()
        if not self._holders:
            return False
        self._permissions -= 1
        return True

    async def dial_now(self) -> None:
        """Allow one dial and wait for what comes of it; raises its failure."""
        self._permissions = 1
        self._lot.unpark()
        await self._answers.park()
        if self._answer is not None:
            raise self._answer

    def answer(self, error: BaseException | None) -> None:
        """Tell those who wait how the dial went."""
        self._answer = error
        self._permissions = 0
        self._answers.unpark_all()


DialWatcher = Callable[[Endpoint, BaseException], None]


@protected
class Session:
    """Dials, and holds the link of the present epoch.  Each epoch's link is used once."""

    def __init__(
        self,
        transport: Transport,
        selector: EndpointSelector,
        options: LinkOptions,
        on_dial_failed: DialWatcher | None = None,
        goodbye_grace: float = CLOSE_GRACE,
    ) -> None:
        self._goodbye_grace = goodbye_grace
        self.transport = transport
        self.selector = selector
        self.options = options
        self.on_dial_failed = on_dial_failed
        self.link: Link | None = None
        self.farewells: Farewells
        """The goodbyes of the last link; there are none before the first."""
        self._dial_failure: BaseException | None = None
        self.epochs = 0
        """How many links this run of the tree has had."""
        self.dialler = Dialler()

    def spec(self) -> SupervisorSpec:
        """The session's subtree."""
        return SupervisorSpec(
            id="session",
            strategy=Strategy.ONE_FOR_ALL,
            limit=RestartLimit(max_restarts=0),
            children=(
                _member(id="link", start=self._serve_link, start_timeout=None),
                *(_member(id=role, start=partial(self._serve_role, role)) for role in self.transport.roles),
                _member(id="closer", start=self._say_goodbye, stop_grace=CLOSE_GRACE),
            ),
        )

    def require_link(self) -> Link:
        """The present link.

        Raises:
            ConnectionLost: there is none.
        """
        if self.link is None or self.link.closed is not None:
            raise ConnectionLost(f"not connected to {self.selector.current}; supervision is reconnecting")
        return self.link

    def condition(self) -> str:
        """What the connection is like, for who has waited in vain."""
        link, where = self.link, self.selector.current
        if link is None or link.closed is not None:
            return f"not connected to {where} ({self._dial_failure or 'dialling'}); supervision goes on trying"
        if link.blocked is not None:
            return f"{where} has blocked this connection ({link.blocked}) and reads nothing until that is over"
        return f"{where} is connected, but has not answered"

    async def dial(self) -> Link:
        """Connect to the first endpoint that takes us, the one that worked last first.

        Raises:
            BrokerUnreachable: every endpoint failed; its text has the reason for each.
            AccessRefused, NotAllowed: the broker knows us and says no; no other endpoint is asked.
        """
        failures: list[tuple[Endpoint, BrokerUnreachable]] = []
        by_hand = await self.dialler.permission()
        for endpoint in islice(self.selector.one_pass(), 1) if by_hand else self.selector.one_pass():
            try:
                return await self.transport.connect(endpoint, self.options)
            except BrokerUnreachable as error:
                failures.append((endpoint, error))
                self._dial_failure = error
                if self.on_dial_failed is not None:
                    self.on_dial_failed(endpoint, error)
        if by_hand:
            self.selector.advance()
        if len(failures) == 1:
            raise failures[0][1]
        reasons = "; ".join(str(error) for _, error in failures)
        raise BrokerUnreachable(f"none of {len(failures)} endpoints accepted us: {reasons}") from failures[-1][1]

    async def _serve_link(self, ctx: ActorContext) -> None:
        # No start timeout: each dial has connect_timeout, and one by hand waits for its permission.
        try:
            link = await self.dial()
        except BaseException as error:
            self.dialler.answer(error if isinstance(error, Exception) else ConnectionLost("the dial was cut off"))
            raise
        self._dial_failure = None
        self.link, self.farewells = link, Farewells(link, self._goodbye_grace)
        self.epochs += 1
        self.dialler.answer(None)
        try:
            ctx.ready()
            with ctx.until_stopping():
                await link.wait_closed()
            if isinstance(link.closed, ConnectionClosed):
                await ctx.stopping.wait()  # closer said goodbye; our turn to stop comes
            elif link.closed is not None:
                raise link.closed
        finally:
            if link.closed is None:  # we stop before closer came to serve
                with self.farewells.say(ctx):
                    await link.aclose()
            self.link = None
            link.kill(ConnectionLost("the session has ended"))

    async def _serve_role(self, role: str, ctx: ActorContext) -> None:
        link = self.require_link()
        ctx.ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_open, link, ctx, nursery.cancel_scope)
            await link.run(role)
            await ctx.stopping.wait()

    async def _say_goodbye(self, ctx: ActorContext) -> None:
        link = self.require_link()
        ctx.ready()
        await ctx.stopping.wait()
        if link.closed is None:
            with self.farewells.say(ctx):
                await link.aclose()


@trio.lowlevel.enable_ki_protection
async def _leave_open(link: Link, ctx: ActorContext, role: trio.CancelScope) -> None:
    """Cancel a role that is to stop before there was a goodbye: closer did not serve yet, and nothing would end it."""
    await ctx.stopping.wait()
    if link.closed is None:
        role.cancel()


_member = partial(ChildSpec, stop_grace=ROLE_GRACE, interruptible=False)
