"""How a program and its test talk: the program asks for a fault on stdout and waits for a line on stdin."""

import json
import sys


def reset():
    """Ask the test to reset every connection to the broker; returns when that is done."""
    print("RESET", flush=True)
    sys.stdin.readline()


def outcome(**seen):
    """Tell the test what came of it."""
    print("OUTCOME", json.dumps(seen), flush=True)
