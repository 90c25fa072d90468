"""Several URLs for one broker: the first that answers serves."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.errors import BrokerUnreachable

from .native import PATIENCE, drained, fill, queue
from .realms import Realm

FORMS = pytest.mark.parametrize("form", ["list", "semicolons"])
STRATEGIES = pytest.mark.parametrize("strategy", ["round-robin", "shuffle"])


def written(form: str, *urls: str) -> str | list[str]:
    return ";".join(urls) if form == "semicolons" else list(urls)


@FORMS
@STRATEGIES
async def test_a_dead_endpoint_is_passed_over(realm: Realm, form: str, strategy: str) -> None:
    """At the first connect, and after the loss of a session."""
    with trio.fail_after(PATIENCE):
        async with realm.open_broker(written(form, realm.dead, realm.url), failover_strategy=strategy) as broker:
            await queue(broker, "q")
            await fill(broker, "q", 1)
            await trio.to_thread.run_sync(realm.drop_connections)
            await fill(broker, "q", 2)
            assert sorted(set(await drained(broker, "q"))) == [1, 2]


@FORMS
def test_the_facade_passes_over_a_dead_endpoint(realm: Realm, form: str) -> None:
    """Also for ``alternates``; ``as_uri`` shows whom it is connected to."""
    with realm.connect(written(form, realm.dead, realm.url)) as connection:
        connection.connect()
        assert connection.as_uri().split("/")[2] == realm.connect().as_uri().split("/")[2]
    with realm.connect(realm.dead, alternates=realm.url.split(";")) as connection:
        connection.connect()
        assert connection.connected


@FORMS
async def test_when_none_answers_each_reason_is_told(realm: Realm, form: str) -> None:
    """One pass over all of them, then BrokerUnreachable with what each said."""
    with pytest.raises(BrokerUnreachable) as caught:
        async with realm.open_broker(written(form, realm.dead, realm.dead)):
            raise AssertionError("connected to nobody")
    assert "none of 2 endpoints" in str(caught.value)
    assert str(caught.value).count("refuse") >= 2
