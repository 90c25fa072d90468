"""Types that JSON learns, serializers of one's own, and one that an installed package brings along.

Alone: its package must be there before kombu is imported.
Prints:
    Point [1, 2]
    application/x-pickle2 {'n': 1}
    application/x-shout {'n': 2}
"""

import pickle
import sys
import tempfile
from io import BytesIO
from pathlib import Path

# What pip puts into site-packages for a package with this entry point.
site = Path(tempfile.mkdtemp())
info = site / "guide_shouting-1.dist-info"
info.mkdir()
(info / "METADATA").write_text("Metadata-Version: 2.1\nName: guide-shouting\nVersion: 1\n")
(info / "entry_points.txt").write_text("[kombu.serializers]\nshout = guide_shouting:register_args\n")
(site / "guide_shouting.py").write_text(
    "import json\n"
    "def shout(body): return json.dumps(body).upper()\n"
    "def hear(data): return json.loads(data.lower())\n"
    "register_args = (shout, hear, 'application/x-shout', 'utf-8')\n"
)
sys.path.insert(0, str(site))

from kombu import Connection, Consumer, Queue, serialization  # noqa: E402
from kombu.utils.json import register_type  # noqa: E402

queue = Queue("guide-registering", routing_key="guide-registering")


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


def loads(data):
    return pickle.load(BytesIO(data))


def callback(body, message):
    if isinstance(body, Point):
        print("Point", [body.x, body.y])
    else:
        print(message.content_type, body)
    message.ack()


register_type(Point, "guide.Point", lambda point: [point.x, point.y], lambda pair: Point(*pair))
serialization.register(
    "my_pickle", pickle.dumps, loads, content_type="application/x-pickle2", content_encoding="binary"
)

with Connection(sys.argv[1]) as conn:
    producer = conn.Producer(routing_key=queue.name)
    with Consumer(conn, [queue], accept=["json", "my_pickle", "shout"], callbacks=[callback]):
        for body, serializer in ((Point(1, 2), "json"), ({"n": 1}, "my_pickle"), ({"n": 2}, "shout")):
            producer.publish(body, serializer=serializer)
            conn.drain_events(timeout=10)
