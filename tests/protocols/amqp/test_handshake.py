"""Opening a connection: what is agreed on, what is refused, and what answers that isn't a broker."""

from __future__ import annotations

import pytest
from amqp import spec
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.protocols.amqp import (
    AMQPEngine,
    ExternalCredentials,
    Limits,
    LocalProtocolError,
    NotAMQP,
    PeerProtocolError,
    PlainCredentials,
)
from kombu_actors.protocols.amqp.events import ConnectionClosed, ConnectionClosedByPeer, ConnectionOpened
from kombu_actors.protocols.amqp.negotiation import CAPABILITIES, agree
from kombu_actors.protocols.amqp.states import ConnectionState
from tests import support_amqp_server as peer

from .support import new_engine, opened_engine, receive_split, sent_frames


def test_a_connection_opens_with_what_was_agreed() -> None:
    """Header, start-ok, tune-ok, open; the event carries the broker's properties and the limits."""
    engine = new_engine(virtual_host="/shop", heartbeat=20, properties={"connection_name": "till 3"})
    engine.start()
    assert engine.sender.take() == peer.GREETING
    assert engine.receive(peer.start(product="Rabbit")) == []
    (start_ok,) = sent_frames(engine)
    told, mechanism, response, locale = start_ok.arguments
    assert (mechanism, bytes(response), locale) == ("PLAIN", b"\0ann\0canary-secret", "en_US")
    assert told["connection_name"] == "till 3"
    assert told["capabilities"] == CAPABILITIES
    assert engine.receive(peer.tune(100, 8192, 60)) == []
    tune_ok, open_ = sent_frames(engine)
    assert tune_ok.arguments == [100, 8192, 20]
    assert open_.arguments == ["/shop", "", False]
    assert engine.receive(peer.open_ok()) == [ConnectionOpened({"product": "Rabbit"}, Limits(100, 8192, 20))]


def test_external_login_sends_no_password() -> None:
    """The identity is the certificate's."""
    engine = AMQPEngine(ExternalCredentials())
    engine.start()
    engine.receive(peer.start())
    start_ok = peer.parse_client(engine.sender.take()[8:])[0][0]
    assert start_ok.arguments[1:3] == ["EXTERNAL", b""]


def test_no_repr_shows_a_password() -> None:
    """Credentials end up in tracebacks and debuggers."""
    assert "canary-secret" not in repr(PlainCredentials("ann", "canary-secret"))


@pytest.mark.parametrize(
    ("offered", "wanted", "agreed"),
    [
        (Limits(0, 0, 0), Limits(2047, 131072, 0), Limits(2047, 131072, 0)),
        (Limits(100, 4096, 60), Limits(2047, 131072, 10), Limits(100, 4096, 10)),
        (Limits(65535, 2**31, 5), Limits(10, 131072, 60), Limits(10, 131072, 5)),
        (Limits(10, 131072, 60), Limits(0, 0, 0), Limits(10, 131072, 60)),
        (Limits(0, 0, 0), Limits(0, 0, 30), Limits(65535, 0, 30)),
    ],
)
def test_limits_follow_the_specifications_rules(offered: Limits, wanted: Limits, agreed: Limits) -> None:
    """Zero is 'no limit'; a heartbeat wanted by one side is had by both."""
    assert agree(offered, wanted) == agreed


@given(st.builds(Limits, *[st.integers(0, 65535)] * 3), st.builds(Limits, *[st.integers(0, 65535)] * 3))
def test_no_agreed_limit_exceeds_what_either_side_named(offered: Limits, wanted: Limits) -> None:
    """For all offers: at most the smaller of the two that are no zeros; too small frames are refused."""
    if 0 < offered.frame_max < 4096:
        with pytest.raises(PeerProtocolError, match="4096"):
            agree(offered, wanted)
        return
    agreed = agree(offered, wanted)
    for mine, theirs, ours in (
        (agreed.channel_max, offered.channel_max, wanted.channel_max),
        (agreed.frame_max, offered.frame_max, wanted.frame_max),
        (agreed.heartbeat, offered.heartbeat, wanted.heartbeat),
    ):
        assert all(mine <= named for named in (theirs, ours) if named)


def test_a_refused_login_is_reported_and_answered() -> None:
    """403 during the handshake: the capability authentication_failure_close asks the broker to say so."""
    engine = new_engine()
    engine.start()
    engine.receive(peer.start())
    engine.sender.take()
    events = engine.receive(peer.connection_close(403, "ACCESS_REFUSED - no"))
    assert events == [ConnectionClosedByPeer(403, "ACCESS_REFUSED - no", (0, 0), ())]
    assert [sent.signature for sent in sent_frames(engine)] == [spec.Connection.CloseOk]
    assert engine.state is ConnectionState.CLOSED


def test_a_login_method_that_is_not_offered_fails_with_what_is() -> None:
    """No response is sent to a broker that wouldn't take it."""
    engine = new_engine()
    engine.start()
    engine.sender.take()
    with pytest.raises(PeerProtocolError, match="PLAIN is not offered by the broker, but EXTERNAL GSSAPI"):
        engine.receive(peer.start(mechanisms="EXTERNAL GSSAPI"))
    assert b"canary-secret" not in engine.sender.take()


def test_login_challenges_are_bounded() -> None:
    """A broker that never stops asking doesn't keep us busy for ever."""
    engine = new_engine()
    engine.start()
    engine.receive(peer.start())
    secure = peer.method(0, spec.Connection.Secure, "S", "more?")
    for _ in range(4):
        engine.receive(secure)
    with pytest.raises(PeerProtocolError, match="more than 4 rounds"):
        engine.receive(secure)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", r"in HTTP \('HTTP/1.1"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "speaks TLS"),
        (b"AMQP\x00\x01\x00\x00", "AMQP 0.1.0.0: it doesn't accept AMQP 0-9-1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-"),
        (b"-ERR unknown command", "not an AMQP broker"),
    ],
)
def test_a_peer_that_is_no_amqp_broker_is_recognised(answer: bytes, says: str) -> None:
    """Byte by byte or at once, the error says what answered and what to do."""
    for cuts in ([], list(range(len(answer)))):
        engine = new_engine()
        engine.start()
        engine.sender.take()
        with pytest.raises(NotAMQP, match=says):
            receive_split(engine, answer, cuts)
        assert engine.sender.take() == b""


def test_a_short_answer_is_judged_when_the_stream_ends() -> None:
    """Too few bytes to tell, then nothing."""
    engine = new_engine()
    engine.start()
    assert engine.receive(b"nope") == []
    assert isinstance(engine.end_of_stream(), NotAMQP)


def test_another_amqp_version_is_refused() -> None:
    """connection.start of 8-0, as from a very old broker."""
    engine = new_engine()
    engine.start()
    with pytest.raises(NotAMQP, match="8-0"):
        engine.receive(peer.start(major=8, minor=0))


@pytest.mark.parametrize(
    "out_of_order",
    [peer.tune(), peer.open_ok(), peer.channel_open_ok(1), peer.frame(8, 0, b"") + peer.open_ok()],
)
def test_replies_out_of_order_are_protocol_errors(out_of_order: bytes) -> None:
    """The handshake is a line, not a set."""
    engine = new_engine()
    engine.start()
    with pytest.raises(PeerProtocolError):
        engine.receive(out_of_order)
    assert engine.state is ConnectionState.CLOSED


def test_before_tune_a_frame_is_at_most_4096_bytes() -> None:
    """frame-min-size bounds both directions until limits are agreed."""
    engine = new_engine()
    engine.start()
    with pytest.raises(PeerProtocolError, match="4088 is the most"):
        engine.receive(b"\x01\x00\x00" + (4089).to_bytes(4, "big") + b"\x00")
    with pytest.raises(ValueError, match="client_properties must fit"):
        new_engine(properties={"story": "x" * 4096})


def test_goodbye_discards_everything_but_its_answer() -> None:
    """Deliveries and requests that cross our close on the wire mean nothing any more."""
    engine = opened_engine()
    engine.open_channel("t")
    engine.receive(peer.channel_open_ok(1))
    engine.sender.take()
    engine.close()
    (close,) = sent_frames(engine)
    assert close.signature == spec.Connection.Close
    assert engine.receive(peer.delivery(1, 1, b"late") + peer.channel_close(1, 404, "gone")) == []
    with pytest.raises(LocalProtocolError, match="connection is closing"):
        engine.open_channel("u")
    with pytest.raises(LocalProtocolError, match="channel 1 is free"):
        engine.ack(1, 1)
    assert engine.receive(peer.method(0, spec.Connection.CloseOk)) == [ConnectionClosed()]
    assert engine.receive(b"anything") == []


def test_both_sides_may_say_goodbye_at_once() -> None:
    """The broker's close is answered although ours is under way."""
    engine = opened_engine()
    engine.close()
    engine.sender.take()
    events = engine.receive(peer.connection_close(320, "shutdown"))
    assert events == [ConnectionClosedByPeer(320, "shutdown", (0, 0), ())]
    assert [sent.signature for sent in sent_frames(engine)] == [spec.Connection.CloseOk]


def test_blocked_and_unblocked_are_reported() -> None:
    """connection.blocked carries the broker's reason."""
    engine = opened_engine()
    events = engine.receive(
        peer.method(0, spec.Connection.Blocked, "s", "low on memory") + peer.method(0, spec.Connection.Unblocked)
    )
    assert [tuple(event) for event in events] == [("low on memory",), ()]
