"""How far one local cluster goes: what grows with waiters, sessions, leases that end at once, held locks and groups.

``make extent``, or one measurement of it: ``python -m loadtests.extent waiters``. Each prints a line for people on
standard error and one JSON object on standard output.
"""
