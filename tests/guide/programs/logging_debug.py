"""kombu's loggers: a level by name, a root logger that is set up for a program, and for the connection's doings.

Brokers: memory
Prints:
    guide.worker 20
    INFO: Got task: add(2, 2)
"""

import logging
import sys

from kombu import Connection
from kombu.log import LOG_LEVELS, get_logger
from kombu.utils.debug import setup_logging
from kombu.utils.functional import reprcall


class Printing(logging.Handler):
    def emit(self, record):
        if record.name == "guide.worker":
            print(f"{record.levelname}: {record.getMessage()}")


logger = get_logger("guide.worker")
setup_logging(loglevel="INFO", loggers=["guide.worker"])
logger.handlers[:] = [Printing()]
logger.propagate = False
print(logger.name, LOG_LEVELS["INFO"])
with Connection(sys.argv[1]) as connection:
    connection.connect()
    logger.info("Got task: %s", reprcall("add", (2, 2)))
