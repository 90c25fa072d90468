"""A Celery application for Flower and the exporter to look at; ``BROKER`` in the environment is its broker's URL."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ.get("BROKER", "memory://"), backend="rpc://")
app.conf.worker_send_task_events = True
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_channel_error_retry = True


@app.task
def add(x, y):
    return x + y
