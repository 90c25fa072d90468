"""A consumer made before its queue is known to the broker; the producer declares what it needs.

Prints:
    RECEIVED MESSAGE: {'foo': 'bar'}
"""

import sys

from kombu import Connection, Consumer, Exchange, Queue

media_exchange = Exchange("guide-media", "direct")
video_queue = Queue("guide-video", exchange=media_exchange, routing_key="video")


def handle_message(body, message):
    print(f"RECEIVED MESSAGE: {body!r}")
    message.ack()


connection = Connection(sys.argv[1])
consumer = Consumer(connection, [video_queue], callbacks=[handle_message])
producer = connection.Producer(serializer="json")
producer.publish({"foo": "bar"}, exchange=media_exchange, routing_key="video", declare=[video_queue])
consumer.consume()
connection.drain_events(timeout=10)
connection.release()
