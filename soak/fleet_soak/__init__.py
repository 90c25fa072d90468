"""A fleet in four processes under load and faults: ``python -m soak.fleet_soak --transport amqp --seconds 600``."""
