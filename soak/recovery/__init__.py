"""Random programs of topology and consumers under random faults, held against a pure model.

``plan`` makes the steps of a seed, ``model`` says who has to hear after them, ``driver`` carries them out on a broker
of ``realms``, and ``shrink`` finds a shorter program that fails alike.
"""
