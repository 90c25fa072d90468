"""The memory broker may not be kinder than RabbitMQ: the same scripts, the same answers."""

from __future__ import annotations

import itertools
import random
from urllib.parse import quote

import pytest

from kombu_actors.transport.memory import forget_memory_broker

from .rivals import Player, play
from .scripts import SCRIPTS

_names = itertools.count()


async def play_in_memory(name: str, virtual_host: str) -> list[object]:
    script, players = SCRIPTS[name]
    return await _alone(script, virtual_host, players)


async def _alone(script: object, virtual_host: str, players: int) -> list[object]:
    broker = f"rival-{next(_names)}"
    try:
        return await play(script, f"memory://{broker}/{quote(virtual_host, safe='')}", players)  # type: ignore[arg-type]
    finally:
        forget_memory_broker(broker)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
async def test_every_script_has_the_same_answers_as_at_rabbitmq(name: str, amqp_url: str, vhost: str) -> None:
    """Every reply, refusal (code and wording), delivery, confirm, return and cancel."""
    script, players = SCRIPTS[name]
    assert await play_in_memory(name, vhost) == await play(script, amqp_url, players)


@pytest.mark.parametrize("seed", range(8))
async def test_random_business_goes_as_at_rabbitmq(seed: int, amqp_url: str, vhost: str) -> None:
    """Four connections publish, consume, poll, settle, requeue, purge and cancel in random order."""

    async def business(*players: Player) -> None:
        await random_business(random.Random(seed), *players)

    assert await _alone(business, vhost, 4) == await play(business, amqp_url, 4)


async def random_business(rng: random.Random, *players: Player) -> None:
    """One step at a time, each finished before the next: what is left to chance is only the script.

    What RabbitMQ leaves to chance is left out: whom of several consumers it serves first after a
    wait, which of two queues reaches a channel first, and the order among messages that several
    consumers, or polls, of one channel give up at once.
    """
    limits = {"x-max-length": 6, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "r"}
    await players[0].queue("q", limits)
    await players[0].queue("r", {"x-max-priority": 3})
    consumers: dict[str, tuple[Player, str]] = {}
    outstanding: dict[str, list[int]] = {player.name: [] for player in players}
    polled = {player.name: False for player in players}

    def look(player: Player) -> None:
        outstanding[player.name] += [news[2] for news in player.news if news[0] == "deliver"]

    for number in range(60):
        player = rng.choice(players)
        tags = outstanding[player.name]
        queue = "q" if player in players[:2] else "r"
        match rng.choice(
            ["publish"] * 6 + ["settle"] * 4 + ["get", "get", "consume", "cancel", "purge", "close", "qos"]
        ):
            case "publish":
                await player.publish(b"%d" % number, rng.choice("qr"), priority=rng.randrange(5))
            case "settle" if tags:
                tag = rng.choice(tags)
                multiple = rng.random() < 0.3 and not polled[player.name]
                outstanding[player.name] = [each for each in tags if each > tag or (each < tag and not multiple)]
                if rng.random() < 0.5:
                    await player.ack(tag, multiple=multiple)
                else:
                    await player.nack(tag, multiple=multiple, requeue=multiple or rng.random() < 0.7)
            case "get":
                before = len(player.seen)
                await player.get(queue)
                answer = player.seen[before][2]
                if answer is not None:
                    polled[player.name] = True
                    outstanding[player.name].append(answer[0])
            case "consume" if queue not in consumers:
                consumers[queue] = player, f"c{number}"
                await player.consume(queue, f"c{number}")
            case "cancel" if queue in consumers and consumers[queue][0] is player:
                await player.cancel(consumers.pop(queue)[1])
            case "purge":
                await player.purge(queue)
            case "qos":
                await player.qos(rng.randrange(4))
            case "close" if not polled[player.name] or len(tags) < 2:
                if queue in consumers and consumers[queue][0] is player:
                    del consumers[queue]
                outstanding[player.name].clear()
                polled[player.name] = False
                await player.close_channel()
        for each in (*players, *players):  # twice: what the first settles may move something for the other
            await each.meet("q")
            await each.meet("r")
        for each in players:
            look(each)
            await each.depth("q", "r")
