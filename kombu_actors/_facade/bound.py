"""What exchanges and queues have in common: attributes by table, and a channel, once they have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from ..errors import NotBoundError
from ..utils.functional import ChannelPromise
from .surface import Bindable, maybe_channel

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["Attributes", "MaybeChannelBound", "Object"]

Attributes = tuple[tuple[str, Callable[[Any], object] | None], ...]
"""Names of attributes, each with a function that normalises it, or ``None``."""


def _restore(cls: type[Object], attributes: dict[str, object]) -> Object:
    return cls(**attributes)


class Object:
    """Attributes given by keyword, copied, pickled and turned into dicts by one table."""

    attrs: Attributes = ()
    """Those of this class."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        for name, convert in self.attrs:
            value = kwargs.get(name)
            if value is not None:
                setattr(self, name, convert(value) if convert else value)
            elif not hasattr(self, name):
                setattr(self, name, None)

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """The attributes as a dict; with ``recurse`` those that are declarations are dicts as well."""
        result: dict[str, object] = {}
        for name, convert in self.attrs:
            value = getattr(self, name)
            if recurse and isinstance(value, Object):
                result[name] = value.as_dict(recurse=True)
            else:
                result[name] = convert(value) if convert and value is not None else value
        return result

    def __reduce__(self) -> tuple[Callable[..., Object], tuple[type[Object], dict[str, object]]]:
        return _restore, (type(self), self.as_dict())

    def __copy__(self) -> Self:
        return type(self)(**self.as_dict())


class MaybeChannelBound(Object):
    """A declaration that can be bound to a channel."""

    _channel: Channel | ChannelPromise[Channel] | None = None
    _is_bound: bool = False

    can_cache_declaration: bool = False
    """Whether declaring it once per connection is enough."""

    def __call__(self, channel: Bindable) -> Self:
        """``entity(channel)`` is ``entity.bind(channel)``."""
        return self.bind(channel)

    def bind(self, channel: Bindable) -> Self:
        """A copy bound to a channel, or to a connection's default channel."""
        return self.__copy__().maybe_bind(channel)

    def maybe_bind(self, channel: Bindable | None) -> Self:
        """Bind this very object, unless it is bound already; returns it."""
        if channel and not self.is_bound:
            self._channel = maybe_channel(channel)
            self.when_bound()
            self._is_bound = True
        return self

    def revive(self, channel: Channel | ChannelPromise[Channel]) -> None:
        """Move a bound object to another channel; an unbound one stays unbound."""
        if self.is_bound:
            self._channel = channel
            self.when_bound()

    def when_bound(self) -> None:
        """Called after the channel was set."""

    @property
    def is_bound(self) -> bool:
        """Whether it has a channel."""
        return self._is_bound and self._channel is not None

    @property
    def channel(self) -> Channel:
        """The channel it is bound to; raises ``NotBoundError`` when there is none."""
        channel = self._channel
        if channel is None:
            raise NotBoundError(f"Can't call method on {type(self).__name__} not bound to a channel")
        if isinstance(channel, ChannelPromise):
            channel = self._channel = channel()
        return channel

    def __repr__(self) -> str:
        return self._repr_entity(type(self).__name__)

    def _repr_entity(self, item: str = "") -> str:
        item = item or type(self).__name__
        channel = self._channel
        if not self.is_bound or channel is None:
            return f"<unbound {item}>"
        if isinstance(channel, ChannelPromise):  # repr opens no channel
            return f"<{item} bound to {channel!r}>"
        return f"<{item} bound to chan:{channel.channel_id}>"
