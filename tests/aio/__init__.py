"""``kombu_actors.aio``, in asyncio's own loop and in uvloop's, on each transport."""
