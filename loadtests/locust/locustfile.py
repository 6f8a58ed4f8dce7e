"""For ``locust -f loadtests/locust/locustfile.py``: options, user classes, and the figures that are kept.

User classes are named by the way and the scenario, as ``SdkUncontended``, ``HttpHotLocks`` or ``GrpcKeepalive``; name
those that are wanted on Locust's command line. ``--host`` is the service's HTTP address.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust import User, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.locust import scenarios
from loadtests.locust.catalogue import SCENARIOS, user_class
from loadtests.locust.figures import Figures
from loadtests.locust.hosted_users import GrpcUser, SdkUser
from loadtests.locust.http_users import HttpUser
from loadtests.locust.plans import Turn
from loadtests.locust.shapes import SHAPES, PlannedShape
from loadtests.locust.tenants import Administration, Made
from loadtests.locust.timeline import Row, Timeline, period_of
from loadtests.locust.vocabulary import Outcome

WAYS: dict[str, type[User]] = {"sdk": SdkUser, "grpc": GrpcUser, "http": HttpUser}
REPORT = "holdfast"
"""Under which workers send their rows to the master."""

for _way, _user in WAYS.items():
    for _scenario in (getattr(scenarios, each) for several in SCENARIOS.values() for each in several):
        _name = user_class(_way, _scenario.__name__)
        globals()[_name] = type(_name, (_scenario, _user), {"abstract": False, "__doc__": _scenario.__doc__})


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add: Any = parser.add_argument
    add("--url", env_var="HOLDFAST_URL", default="", help="where users of the SDK go, holdfast://HOST:PORT")
    add("--grpc", env_var="HOLDFAST_GRPC", default="", help="where users of gRPC go, HOST:PORT")
    add("--api-key", env_var="HOLDFAST_API_KEY", default="", is_secret=True, help="of the one tenant of all users")
    add("--operator-key", env_var="HOLDFAST_OPERATOR_KEY", default="", is_secret=True, help="makes --tenants")
    add("--tenants", type=int, default=0, help="made for this run, removed after it, shared out among the users")
    add("--plan", default="unlimited", help="of these tenants: free, standard or unlimited")
    add("--tenant-rate", type=int, default=0, help="operations per second of each of them; 0: what the plan says")
    add("--rate", type=float, default=10.0, help="most steps per second of each user")
    add("--shape", choices=["", *SHAPES], default="", help="of the load; -u is its most users and -t its length")
    add("--figures", default="", help="JSON file for what was counted, second by second")
    add("--scenario", default="", help="what --figures calls the run")


class Recording:
    """Counts what this process's users do; of the master's, also what the workers sent."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        options: Any = environment.parsed_options
        self._timeline = Timeline(period_of(options.run_time or 0))
        self._users: list[Turn] = []
        self._made: list[Made] = []
        self._ended_s = 0.0
        self._administration = Administration(environment.host or "", options.operator_key)
        # Locust sends all its options to the workers, and these have no use for it.
        options.operator_key = ""
        hear = environment.events
        hear.request.add_listener(self._note)
        hear.user_error.add_listener(self._note_error)
        if isinstance(environment.runner, WorkerRunner):
            hear.report_to_master.add_listener(self._send)
            return
        if isinstance(environment.runner, MasterRunner):
            hear.worker_report.add_listener(self._receive)
        hear.test_start.add_listener(self._begin)
        hear.test_stopping.add_listener(self._stopping)
        hear.quitting.add_listener(self._end)
        gevent.spawn(self._count_users)

    def _note(self, response_time: float, context: dict[str, Any], **_: Any) -> None:
        self._timeline.note(time.time(), context["verb"], context["judged"], context["outcome"], response_time)

    def _note_error(self, **_: Any) -> None:
        self._timeline.note(time.time(), "scenario", True, Outcome.FAILED, 0.0)

    def _send(self, data: dict[str, Any], **_: Any) -> None:
        data[REPORT] = msgspec.msgpack.encode(self._timeline.taken())

    def _receive(self, data: dict[str, Any], **_: Any) -> None:
        self._timeline.add(msgspec.msgpack.decode(data[REPORT], type=list[Row]))

    def _begin(self, **_: Any) -> None:
        # Before any user: Locust sends the options, with the keys, to the workers when it tells them to begin.
        options: Any = self._environment.parsed_options
        options.api_keys = [options.api_key]
        if options.tenants:
            self._made = self._made or self._administration.make(options.tenants, options.plan, options.tenant_rate)
            options.api_keys = [made.api_key for made in self._made]

    def _count_users(self) -> None:
        runner = self._environment.runner
        assert runner is not None
        while True:
            self._users.append(Turn(time.time(), runner.user_count))
            gevent.sleep(self._timeline.period_s)

    def _stopping(self, **_: Any) -> None:
        # What comes after this is users that end what they had begun, fewer and fewer.
        self._ended_s = time.time()

    def _end(self, **_: Any) -> None:
        options: Any = self._environment.parsed_options
        if options.figures:
            path = Path(options.figures)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.encode(self._figures(options)))
        self._administration.remove(self._made)
        self._made = []

    def _figures(self, options: Any) -> Figures:
        shape = self._environment.shape_class
        turns = shape.turns if isinstance(shape, PlannedShape) else [Turn(self._users[0].at_s, options.num_users)]
        through = ", ".join(way for way, user in WAYS.items() if _any_of(self._environment, user))
        rows, period_s = self._timeline.rows(), self._timeline.period_s
        return Figures(options.scenario, through, options.shape, rows, turns, self._users, self._ended_s, period_s)


def _any_of(environment: Environment, kind: type[User]) -> bool:
    return any(issubclass(user, kind) for user in environment.user_classes)


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    if options.shape and not isinstance(environment.runner, WorkerRunner):
        environment.shape_class = SHAPES[options.shape]()
        environment.shape_class.runner = environment.runner
    Recording(environment)
