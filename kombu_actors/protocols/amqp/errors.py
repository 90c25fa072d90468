"""What can go wrong between two ends of an AMQP connection, before it has a meaning for actors."""

from __future__ import annotations

from ...errors import KombuError

__all__ = ["LocalProtocolError", "NotAMQP", "PeerProtocolError", "ProtocolError"]


class ProtocolError(KombuError):
    """The rules of AMQP 0-9-1 were broken; ``code`` is the reply code that says which."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class LocalProtocolError(ProtocolError):
    """This side asked the engine for something that is illegal in its state; nothing was sent."""

    def __init__(self, text: str) -> None:
        super().__init__(503, text)

    def __str__(self) -> str:
        return self.text


class PeerProtocolError(ProtocolError):
    """The broker sent something illegal; the connection can't go on."""


class NotAMQP(PeerProtocolError):
    """Whatever answered does not speak AMQP 0-9-1; ``text`` says what it looks like and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(501, text)

    def __str__(self) -> str:
        return self.text
