"""TLS: the broker proves who it is; with a certificate of our own, no password is needed either.

    python examples/tls.py amqps://localhost:5671 ca.pem [client.pem client.key]

``ca.pem`` has the authority that signed the broker's certificate.  docs/tls.md says what RabbitMQ must be told.
"""

from __future__ import annotations

import sys

from kombu_actors import Connection, Queue
from kombu_actors.errors import HandshakeFailed

greetings = Queue("greetings", auto_delete=True)


def main(url: str, ca_certs: str, certfile: str | None = None, keyfile: str | None = None) -> int:
    # Chain and host name are verified, TLS 1.2 is the oldest taken.  The files are read at each dial.
    tls = {"ca_certs": ca_certs, "certfile": certfile, "keyfile": keyfile}
    login_method = "EXTERNAL" if certfile else "PLAIN"
    try:
        with Connection(url, ssl=tls, login_method=login_method) as connection:
            connection.connect()  # at once; left out, the first use connects, and tries for ``connect_timeout`` seconds
            connection.Producer().publish("hello in private", routing_key="greetings", declare=[greetings])
            with connection.SimpleQueue(greetings) as queue:
                message = queue.get(timeout=10)
                print(f"received {message.payload!r}")
                message.ack()
    except HandshakeFailed as error:
        print(error, file=sys.stderr)  # which check failed, and what to do
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
