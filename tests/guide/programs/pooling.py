"""Pools: one for all connections that are equal, with a limit; pool groups of one's own; a reset at the end.

Prints:
    the same pool: True
    10
    got one: True
    two brokers at once: True
    {'title': 'No cellular coverage on the tube'}
    now 12
    limited: ConnectionLimitExceeded
    own groups: 2 2
    global limit: 12
    reset
"""

import sys

from kombu import Connection, Exchange, Queue, pools
from kombu.exceptions import ConnectionLimitExceeded
from kombu.pools import connections, producers

connection = Connection(sys.argv[1])
print("the same pool:", connections[Connection(sys.argv[1])] is connections[connection])
print(pools.get_limit())

with connections[connection].acquire(block=True, timeout=10) as conn:
    conn.ensure_connection(timeout=10)
    print("got one:", conn.connected)
    with connections[Connection("memory://guide-other")].acquire(block=True) as other:
        other.ensure_connection(timeout=10)
        print("two brokers at once:", conn.connected and other.connected)

news_exchange = Exchange("guide-news")
news = Queue("guide-news", news_exchange, routing_key="domestic")
with producers[connection].acquire(block=True) as producer:
    producer.publish(
        {"title": "No cellular coverage on the tube"},
        exchange=news_exchange,
        routing_key="domestic",
        declare=[news_exchange, news],
        serializer="json",
        compression="zlib",
    )
with connections[connection].acquire(block=True) as conn:
    message = news(conn.default_channel).get()
    message.ack()
    print(message.payload)

pools.set_limit(12)
print("now", pools.get_limit())

own_connections = pools.Connections(limit=2)
own_producers = pools.Producers(limit=own_connections.limit)
one, two = (own_connections[connection].acquire() for _ in range(2))
try:
    own_connections[connection].acquire()
except ConnectionLimitExceeded as error:
    print("limited:", type(error).__name__)
one.release()
two.release()
print("own groups:", own_connections[connection].limit, own_producers[connection].limit)
print("global limit:", pools.Connections(limit=pools.use_global_limit)[connection].limit)
own_connections[connection].force_close_all()
pools.set_limit(10, force=True, reset_after=True)
pools.reset()
print("reset")
