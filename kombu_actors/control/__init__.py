"""Steering a fleet that runs: a unix socket beside it, and what may be asked over that.

``places`` says where sockets are, ``wire`` what is written, ``client`` asks, ``server`` answers, by the table in
``verbs``.  The first three import no trio: a probe that asks every few seconds has to be cheap.
"""
