"""The session: one live link and the tasks that keep it alive.

One actor: socket, reader, writer and heartbeat share their fate, and their death is one event for the
connection above.  Asked to stop, it says goodbye while they still run, and they end with the link.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import trio

from .._logs import get_logger
from .._values.endpoint import Endpoint, EndpointSelector, LinkOptions
from ..errors import BrokerUnreachable, ChannelLimitExceeded, ConnectionClosed, ConnectionLost
from ..supervisors import ActorContext, ChildSpec
from ..supervisors._interrupts import protected
from ._waiting import CLOSE_GRACE, Farewells, first_of

if TYPE_CHECKING:
    from ..transport._contract import Link, LinkChannel, Transport

T = TypeVar("T")
logger = get_logger("kombu_actors.session")


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

    def spec(self) -> ChildSpec:
        """The session as a child of its connection."""
        # No start timeout: each dial has connect_timeout, and one by hand waits for its permission.
        return ChildSpec(
            id="session", start=self._serve, start_timeout=None, stop_grace=CLOSE_GRACE, interruptible=False
        )

    @property
    def is_up(self) -> bool:
        """Whether there is a link at this moment."""
        return self.link is not None and self.link.closed is None

    def require_link(self) -> Link:
        """The present link.

        Raises:
            ConnectionLost: there is none.
        """
        if self.link is None or self.link.closed is not None:
            raise ConnectionLost(f"not connected to {self.selector.current}; supervision is reconnecting")
        return self.link

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that doesn't wait for another session, as all others do.

        Raises:
            ConnectionLost: there is no session, or it ended before the call did.
        """
        link = self.require_link()
        answers: list[T] = []
        errors: list[Exception] = []

        async def make() -> None:
            try:
                answers.append(await call())
            except Exception as error:
                errors.append(error)

        await first_of(make, link.wait_closed)
        for error in errors:
            raise error
        if not answers:
            raise ConnectionLost(f"the session with {self.selector.current} ended meanwhile") from link.closed
        return answers[0]

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

    async def _serve(self, ctx: ActorContext) -> None:
        link = await self._next_link()
        try:
            async with trio.open_nursery() as nursery:
                for role in link.roles:
                    nursery.start_soon(self._serve_role, link, role)
                ctx.ready()
                try:
                    with ctx.until_stopping():
                        await link.wait_closed()
                finally:
                    if link.closed is None:
                        with self.farewells.say(ctx):
                            await link.aclose()
        finally:
            self.link = None
            link.kill(ConnectionLost("the session has ended"))
        reason = link.closed
        if reason is not None and not isinstance(reason, ConnectionClosed):
            raise reason
        await ctx.stopping.wait()

    async def probe(self, open_channels: Iterable[LinkChannel]) -> None:
        """One round trip; a session that doesn't answer in ``connect_timeout`` seconds is given up.

        Raises:
            ConnectionLost: there is no session, or it has just ended.
        """
        link = self.require_link()
        if link.blocked is not None:
            return  # the broker reads nothing from us, and is alive
        with trio.move_on_after(self.options.connect_timeout) as patience:
            try:
                await (await link.open_channel()).aclose()
            except ChannelLimitExceeded:
                for channel in open_channels:
                    await channel.flow(True)  # asking for deliveries that aren't held up changes nothing
                    break
        if patience.cancelled_caught:
            link.kill(ConnectionLost(f"no answer within {self.options.connect_timeout:g} s"))

    async def _next_link(self) -> Link:
        try:
            link = await self.dial()
        except BaseException as error:
            self.dialler.answer(error if isinstance(error, Exception) else ConnectionLost("the dial was cut off"))
            raise
        self._dial_failure = None
        self.link, self.farewells = link, Farewells(link, self._goodbye_grace)
        self.epochs += 1
        self.dialler.answer(None)
        return link

    async def _serve_role(self, link: Link, role: str) -> None:
        """Serve it for as long as the link lives, also for a goodbye of who is being cancelled."""
        with trio.CancelScope(shield=True):
            try:
                await link.run(role)
            except Exception as error:
                link.kill(error)  # which it was before, unless this is a mistake in here
