"""What the router's fronts do for their callers: one implementation of every operation, for HTTP and gRPC alike.

    operations = Operations(...)                       # one per router, made by it
    grant = await operations.acquire(caller, Acquire(name="orders/7"))
    await operations.release(caller, Release(name="orders/7", token=grant.token))

Each method takes the :class:`Caller` that :meth:`Operations.caller` made (who asks, and when the request came) and one
typed request of ``requests``; it returns one typed result, or raises one of the errors that ``problems.PROBLEMS`` has
a row for: a front looks its status up there and says nothing of its own. Cancelling a method takes back what was asked.

Behind them the router is a client of its own service, one for each tenant that has asked for something
(``local_link``): the SDK's core, with its batching, its tickets and its exactly-once numbers, whose sections go the way
of every other caller's through stamping, admission and dispatch.

A lock that was acquired here is its caller's once the answer is given: the router neither renews nor releases it, and
any router serves whoever has its token. Times called ``expires_in_ms`` count from the moment the caller *sent* the
request: what comes late is over sooner, never later, than the service grants the name to another.
"""

from __future__ import annotations

from .callers import Caller
from .problems import PROBLEMS, Problem, problem_of
from .service import Operations

__all__ = ["PROBLEMS", "Caller", "Operations", "Problem", "problem_of"]
