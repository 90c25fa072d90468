"""nameko's RPC and events: two services in one process, called and told from outside.

``python nameko_program.py URL`` prints what came of it as JSON; in the middle it asks for a reset (``told.reset``).
"""

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402

from nameko.containers import ServiceContainer  # noqa: E402
from nameko.events import EventDispatcher, event_handler  # noqa: E402
from nameko.rpc import RpcProxy, rpc  # noqa: E402
from nameko.standalone.rpc import ServiceRpcProxy  # noqa: E402
from told import outcome, reset  # noqa: E402

CALLS = 30
heard = []


class Prices:
    name = "prices"

    @rpc
    def of(self, number):
        return number * number

    @event_handler("shop", "sold")
    def note(self, number):
        heard.append(number)


class Shop:
    name = "shop"
    prices = RpcProxy("prices")
    tell = EventDispatcher()

    @rpc
    def sell(self, number):
        price = self.prices.of(number)
        self.tell("sold", number)
        return price


config = {"AMQP_URI": sys.argv[1]}
containers = [ServiceContainer(service, config=config) for service in (Prices, Shop)]
for container in containers:
    container.start()
answers, errors = [], []


def use(numbers):
    for number in numbers:
        try:
            with eventlet.Timeout(20), ServiceRpcProxy("shop", config, timeout=15) as shop:
                answers.append(shop.sell(number) == number * number)
        except (Exception, eventlet.Timeout) as error:
            errors.append(repr(error)[:200])


use(range(CALLS))
reset()
use(range(CALLS, 2 * CALLS))
for _ in range(50):
    if len(set(heard)) == 2 * CALLS:
        break
    eventlet.sleep(0.1)
outcome(answers=answers.count(True), errors=errors, heard=len(set(heard)), again=len(heard) - len(set(heard)))
for container in containers:
    container.stop()
