"""What ``broker`` and ``_subscription`` are made of; in trio, knows no threads."""
