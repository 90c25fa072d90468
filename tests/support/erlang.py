"""A door into a running RabbitMQ node: Erlang expressions in, answers out, in milliseconds.

``rabbitmqctl`` boots an Erlang machine per call (0.3-0.5 s here); the management plugin
makes every start some 3 s slower and its figures lag by 5 s.  The door is a Unix socket,
opened by the node itself at boot in its private directory, that evaluates what it is sent:
about a millisecond a call, and the answers come from the queues' own processes.
"""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

# Evaluated by the node at boot.  Acceptor and server are processes of their own, so that an
# expression that blocks holds up nobody else; the listener lives as long as its owner.
_DOOR = r"""
Evaluate = fun(Text) ->
    {{ok, Tokens, _}} = erl_scan:string(unicode:characters_to_list(Text)),
    {{ok, Expressions}} = erl_parse:parse_exprs(Tokens),
    {{value, Value, _}} = erl_eval:exprs(Expressions, erl_eval:new_bindings()),
    Value
end,
Answer = fun(Text) ->
    try [1, Evaluate(Text)]
    catch Class:Reason -> [0, unicode:characters_to_binary(io_lib:format("~p: ~tp", [Class, Reason]))]
    end
end,
Accept = fun Accept(Listener) ->
    {{ok, Socket}} = gen_tcp:accept(Listener),
    spawn(fun() -> Accept(Listener) end),
    {{ok, Text}} = gen_tcp:recv(Socket, 0),
    gen_tcp:send(Socket, Answer(Text)),
    gen_tcp:close(Socket)
end,
spawn(fun() ->
    file:delete("{path}"),
    {{ok, Listener}} = gen_tcp:listen(0, [binary, {{ifaddr, {{local, "{path}"}}}}, {{packet, 4}}, {{active, false}}]),
    spawn(fun() -> Accept(Listener) end),
    receive stop -> ok end
end).
"""


class ErlangError(Exception):
    """The expression failed in the node; says with which class and reason."""


class ErlangDoor:
    """The client's side of the door of one node."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "door"
        self._script = directory / "door.erl"
        if len(str(self.path)) > 100:
            raise ValueError(f"too long for a Unix socket's address (a shorter TMPDIR helps): {self.path}")
        self._script.write_text(_DOOR.format(path=self.path))

    @property
    def boot_arguments(self) -> str:
        """What makes the node open the door at boot, for its ``erl`` command line."""
        return f'-eval file:eval("{self._script}")'

    def eval(self, expression: str, *, timeout: float = 30.0) -> str:
        """Evaluate an expression; return its value as Erlang would print it."""
        printed = f'unicode:characters_to_binary(io_lib:format("~0tp", [begin {expression} end])).'
        return self._ask(printed, timeout).decode()

    def query(self, expression: str, *, timeout: float = 30.0) -> Any:
        """Evaluate an expression made of maps, lists, binaries and numbers; return it as Python data."""
        return json.loads(self._ask(f"iolist_to_binary(rabbit_json:encode(begin {expression} end)).", timeout))

    def _ask(self, expression: str, timeout: float) -> bytes:
        request = expression.encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.path))
            connection.sendall(struct.pack(">I", len(request)) + request)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">I", stream.read(4))
                answer = stream.read(size)
        if answer[0] != 1:
            raise ErlangError(f"{answer[1:].decode()}\nin: {expression}")
        return answer[1:]


def binary(text: str) -> str:
    """Write a string as an Erlang binary, whatever is in it."""
    return f"<<{','.join(str(byte) for byte in text.encode())}>>"
