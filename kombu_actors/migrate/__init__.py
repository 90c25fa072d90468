"""What a code base uses of kombu, and what becomes of it here: ``python -m kombu_actors.migrate PATH...``.

    python -m kombu_actors.migrate src                  # each name of kombu's: where, whether it is here, what differs
    python -m kombu_actors.migrate src --rewrite        # the change of the imports, as a unified diff
    python -m kombu_actors.migrate src --rewrite --yes  # the same, carried out

Sources are read, never run.  Whether a name is here is looked up in this library; what may differ is told by the rows
of ``docs/differences.md``.  Exit codes: 0 nothing to worry about, 1 something is missing here or could not be read,
2 a mistake in the command line.  See ``docs/migrating-from-kombu.md``.
"""
