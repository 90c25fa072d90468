"""Celery on kombu_actors, beside Celery on stock kombu: the same scenarios, told apart by how a process is started."""
