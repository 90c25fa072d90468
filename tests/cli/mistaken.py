"""A fleet with a mistake in it."""

from __future__ import annotations

from kombu_actors.fleet import Fleet

fleet = Fleet("memory://shop")


@fleet.consumer("work", concurrency=0)
async def work(text: str) -> None: ...
