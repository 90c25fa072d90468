"""What the host that runs a program is told of it: systemd, and files that probes look at.

Companions of ``kombu-actors run``; ``docs/deploying.md`` tells how they are used.
"""

from .following import follow
from .healthfile import HealthFile
from .living import alive
from .systemd import Notifier, notifier_of

__all__ = ["HealthFile", "Notifier", "alive", "follow", "notifier_of"]
