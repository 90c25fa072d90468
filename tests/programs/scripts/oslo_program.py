"""RPC and notifications of oslo.messaging: a server, a listener and their clients in one process.

``python oslo_program.py URL`` prints what came of it as JSON; in the middle it asks for a reset (``told.reset``).
"""

import sys
import threading

import oslo_messaging
from oslo_config import cfg
from told import outcome, reset

CALLS = 30


class Calculator:
    def square(self, ctxt, number):
        return number * number

    def note(self, ctxt, number):
        noted.append(number)


class Listener:
    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        heard.append(payload["number"])


noted, heard, answers, errors = [], [], [], []
conf = cfg.CONF
conf([])  # the one of the process, as OpenStack has it
url = sys.argv[1].replace("amqp://", "rabbit://")
transport = oslo_messaging.get_rpc_transport(conf, url=url)
notifying = oslo_messaging.get_notification_transport(conf, url=url)
server = oslo_messaging.get_rpc_server(
    transport, oslo_messaging.Target(topic="calculator", server="one"), [Calculator()]
)
server.start()
listener = oslo_messaging.get_notification_listener(
    notifying, [oslo_messaging.Target(topic="notifications")], [Listener()]
)
listener.start()
client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="calculator"), timeout=20)
notifier = oslo_messaging.Notifier(notifying, publisher_id="shop", driver="messagingv2", topics=["notifications"])


def use(numbers):
    for number in numbers:
        try:
            answers.append(client.call({}, "square", number=number) == number * number)
        except Exception as error:
            errors.append(repr(error)[:200])
        client.cast({}, "note", number=number)
        notifier.info({}, "sold", {"number": number})


use(range(CALLS))
reset()
use(range(CALLS, 2 * CALLS))
waiting = threading.Event()
for _ in range(100):
    if len(set(noted)) == len(set(heard)) == 2 * CALLS:
        break
    waiting.wait(0.1)
server.stop()
listener.stop()
outcome(
    answers=answers.count(True),
    errors=errors,
    noted=len(set(noted)),
    heard=len(set(heard)),
    again=len(noted) + len(heard) - len(set(noted)) - len(set(heard)),
)
server.wait()
listener.wait()
transport.cleanup()
notifying.cleanup()
