"""kombu's ids of messages: two with the same id would be taken for one message, in every process of a fleet."""

from __future__ import annotations

import os
import random
from uuid import RFC_4122, UUID

from kombu_actors.transport.redis.tags import new_tag


def test_an_id_is_a_random_uuids_text() -> None:
    """Version 4 in its usual form, no two alike."""
    tags = [new_tag() for _ in range(10_000)]
    assert len(set(tags)) == len(tags)
    for tag in tags[:100]:
        assert (str(UUID(tag)), UUID(tag).version, UUID(tag).variant) == (tag, 4, RFC_4122)


def test_a_program_that_seeds_random_makes_other_ids_all_the_same() -> None:
    """Workers that all call ``random.seed(0)`` must not agree on ids."""
    state = random.getstate()
    random.seed(0)
    first = new_tag()
    random.seed(0)
    second = new_tag()
    random.setstate(state)
    assert first != second


def test_a_forked_child_makes_ids_of_its_own() -> None:
    """It begins with its parent's memory, not with its parent's next id."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.write(writable, new_tag().encode())
        os._exit(0)
    os.close(writable)
    os.waitpid(child, 0)
    with os.fdopen(readable) as pipe:
        assert pipe.read() != new_tag()
