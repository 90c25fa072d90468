"""Log records by way of a simple queue, then of a buffer on a channel, whose messages are transient.

Prints:
    [ERROR] Error happened while encoding video {'filename': 'cutekitten.mpg'}
    has a time and a host: True
    buffered
"""

import socket
import sys
from contextlib import closing
from time import time

from kombu import Connection
from kombu.simple import SimpleBuffer


class Logger:
    def __init__(self, connection, queue_name="guide-log", serializer="json", compression=None):
        self.queue = connection.SimpleQueue(queue_name)
        self.serializer = serializer
        self.compression = compression

    def log(self, message, level="INFO", context=None):
        record = {"message": message, "level": level, "context": context or {}}
        record |= {"hostname": socket.gethostname(), "timestamp": time()}
        self.queue.put(record, serializer=self.serializer, compression=self.compression)

    def process(self, callback, n=1, timeout=10):
        for _ in range(n):
            message = self.queue.get(block=True, timeout=timeout)
            callback(message.payload)
            message.ack()

    def close(self):
        self.queue.close()


def dump_entry(entry):
    print("[{level}] {message} {context}".format(**entry))
    print("has a time and a host:", entry["timestamp"] <= time() and entry["hostname"] == socket.gethostname())


with Connection(sys.argv[1]) as conn:
    with closing(Logger(conn, compression="gzip")) as logger:
        logger.log("Error happened while encoding video", level="ERROR", context={"filename": "cutekitten.mpg"})
        logger.process(dump_entry)

    channel = conn.channel()
    buffer = SimpleBuffer(channel, "guide-buffer")
    buffer.put("buffered")
    print(buffer.get(timeout=10).payload)
    buffer.close()
    channel.close()
