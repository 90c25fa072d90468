"""A fleet whose handlers take two seconds, and say when they begin and end."""

from __future__ import annotations

import os

import trio

from kombu_actors.fleet import Fleet

fleet = Fleet(os.environ.get("FLEET_URL", "memory://loaded"), name="loaded")


@fleet.consumer("loaded", concurrency=20)
async def work(number: int) -> None:
    print(f"began {number}", flush=True)
    await trio.sleep(2.0)
    print(f"ended {number}", flush=True)
