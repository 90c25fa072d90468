"""What a URL says of a broker, and what keywords say where it leaves something out.

Prints:
    amqp localhost 5672 guest /
    amqp localhost 5672 guest /foo
    amqp localhost 5672 guest foo
    amqp host.example 5673 me vhost
    redis localhost 6379 None /
    amqp broker.example 5672 bob orders
    amqp keywords 5671 alice accounts
    ssl: True
"""

from kombu import Connection


def show(*args, **keywords):
    """The parts, with what holds for a part that nobody named."""
    info = Connection(*args, **keywords).info()
    kind = info["transport"].replace("pyamqp", "amqp")
    print(kind, info["hostname"], info["port"], info["userid"], info["virtual_host"] or "/")


show("amqp://guest:guest@localhost:5672//")
show("amqp://localhost//foo")
show("amqp://localhost/foo")
show("amqp://me:secret@host.example:5673/vhost")
show("redis://localhost:6379/")
show("amqp://broker.example/orders", userid="bob", password="secret")
show("keywords", port=5671, userid="alice", password="secret", virtual_host="accounts", transport="pyamqp")
print("ssl:", bool(Connection("amqp://localhost/myvhost?ssl=1").ssl))
