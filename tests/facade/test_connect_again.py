"""``connect()`` after one that failed."""

from __future__ import annotations

import pytest

from kombu_actors import Connection
from tests.support.brokers import free_port


def test_a_connect_right_after_one_that_failed_dials_again() -> None:
    """Though what the failure leaves behind is still being stopped: the error is not the former one."""
    for _ in range(40):
        with Connection(f"amqp://127.0.0.1:{free_port()}") as connection:
            errors: list[BaseException] = []
            for _ in range(2):
                with pytest.raises(connection.connection_errors) as caught:
                    connection.connect()
                errors.append(caught.value)
        assert errors[0] is not errors[1]
