"""What a router knows by watch: whose key it is, what has ended, and whether it may still trust any of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from holdfast.wire.errors import Forbidden, HoldfastError, Unauthenticated, Unavailable
from holdfast.wire.keys import is_secret_of
from holdfast.wire.messages import Beat, MetaDelta, MetaRecord, delta_between
from holdfast.wire.tenants import ApiKey, KeyRole, Principal, Tenant
from holdfast_router import directory as module
from holdfast_router.directory import META_SILENCE_S, Directory, Gone
from tests.tenants import OPERATOR_KEY, TENANT_KEY, TENANTS, key_of, key_text, meta_of, tenant_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(clock: Clock) -> Directory:
    directory = Directory(clock)
    directory.adopt(meta_of())
    directory.beat(Beat(1, 3))
    return directory


def test_a_key_is_its_tenants_with_its_role_and_prefix(directory: Directory) -> None:
    assert directory.authenticate(TENANT_KEY) == Principal(1, "tenantaaaaaa", KeyRole.ADMIN, "")
    assert directory.authenticate(OPERATOR_KEY).tenant == 0
    narrow = key_of(key_text("narrow"), KeyRole.READ, "orders/")
    directory.adopt(meta_of(tenant_of(5, narrow), version=2))
    assert directory.authenticate(key_text("narrow")) == Principal(5, "narrowaaaaaa", KeyRole.READ, "orders/")


@pytest.mark.parametrize(
    "text",
    [
        *("", "hf_", "hf__", "tenant", TENANT_KEY[:-1], TENANT_KEY + "s", TENANT_KEY.upper(), " " + TENANT_KEY),
        *(key_text("tenant", "x"), key_text("stranger"), key_text("tenant", "ü"), key_text("tenant", "\ud800")),
    ],
)
def test_what_is_no_key_is_refused_at_the_cost_of_one(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    compared = []

    def compare(key: ApiKey, secret: str) -> bool:
        compared.append(secret)
        return is_secret_of(key, secret)

    monkeypatch.setattr(module, "is_secret_of", compare)
    with pytest.raises(Unauthenticated):
        directory.authenticate(text)
    assert len(compared) == 1


def test_an_empty_secret_hash_lets_nobody_in(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_secret_of", lambda key, secret: True)
    with pytest.raises(Unauthenticated):
        directory.authenticate(key_text("stranger"))


def test_a_suspended_tenants_key_is_known_and_refused(directory: Directory) -> None:
    directory.adopt(meta_of(tenant_of(1, key_of(TENANT_KEY), state="suspended"), version=2))
    with pytest.raises(Forbidden, match="suspended"):
        directory.authenticate(TENANT_KEY)
    with pytest.raises(Unauthenticated):
        directory.authenticate(key_text("tenant", "x"))


def test_it_is_fresh_while_it_hears_the_leader_and_no_longer(directory: Directory, clock: Clock) -> None:
    assert directory.routers == 3
    clock.now = META_SILENCE_S - 0.001
    directory.check_fresh()
    clock.now = META_SILENCE_S
    with pytest.raises(Unavailable):
        directory.check_fresh()
    directory.adopt(meta_of(version=2))
    assert not directory.is_fresh, "a follower may be the one that is cut off"
    directory.beat(Beat(3, 1))
    assert not directory.is_fresh, "there is a change that it has not seen"
    directory.beat(Beat(2, 1))
    directory.check_fresh()


def test_who_never_heard_the_leader_is_not_fresh(clock: Clock) -> None:
    directory = Directory(clock)
    directory.beat(Beat(0, 1))
    assert not directory.is_fresh
    directory.adopt(meta_of())
    assert not directory.is_fresh


def known(directory: Directory) -> MetaRecord:
    """All of it, as it was told."""
    assert directory.record is not None
    tenants = sorted(directory.tenants, key=lambda tenant: tenant.number)
    assert {tenant.id: tenant for tenant in tenants} == directory._by_id
    assert {key.id: (tenant, key) for tenant in tenants for key in tenant.keys} == directory._keys
    return msgspec.structs.replace(directory.record, tenants=tuple(tenants))


def test_deltas_of_several_nodes_lead_to_what_the_group_holds(clock: Clock) -> None:
    a, b, c = (key_of(key_text(letter)) for letter in "abc")
    records = [
        meta_of(tenant_of(1, a), tenant_of(2, b)),
        meta_of(tenant_of(1, a, c, version=2), tenant_of(2, b), version=2),
        meta_of(tenant_of(1, a, c, version=2), version=3),
        meta_of(tenant_of(1, a, c, version=2), tenant_of(3, version=4), version=4),
    ]
    for first in range(4):
        directory = Directory(clock)
        directory.adopt(records[first])
        for base in range(4):
            for to in range(base + 1, 4):
                before = known(directory)
                moved = directory.follow(delta_between(records[base], records[to]))
                assert moved == (base + 1 <= before.version < to + 1)
                assert known(directory) == (records[to] if moved else before)


def test_a_delta_has_only_what_differs() -> None:
    old, new = meta_of(), meta_of(*meta_of().tenants, tenant_of(2, version=2), version=2)
    assert delta_between(old, new) == MetaDelta(1, 2, (tenant_of(2, version=2),))


def test_a_change_costs_what_it_changes(directory: Directory) -> None:
    """Other tenants are not looked at, however many there are."""

    class Untouched(dict[int, Tenant]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("all tenants are looked at")

        values = items = keys = __iter__  # type: ignore[assignment]

    old = meta_of(*TENANTS, *(tenant_of(number, key_of(key_text(f"many{number}"))) for number in range(2, 8)))
    directory.adopt(msgspec.structs.replace(old, version=2))
    directory._tenants = Untouched(directory._tenants)
    changed = tenant_of(5, key_of(key_text("another")), version=3, name="renamed")
    assert directory.follow(MetaDelta(2, 3, (changed,), (7,)))
    assert directory.named("renamed") is directory.tenant(5) is changed
    assert directory.named("tenant5") is directory.named("tenant7") is directory.tenant(7) is None
    assert directory.authenticate(key_text("another")).tenant == 5
    for ended in ("many5", "many7"):
        with pytest.raises(Unauthenticated):
            directory.authenticate(key_text(ended))
    assert directory.authenticate(key_text("many6")).tenant == 6


def test_keys_that_end_are_told_once_and_those_that_stay_are_not(directory: Directory) -> None:
    told: list[dict[str, HoldfastError]] = []

    def listener(gone: Gone) -> None:
        told.append(dict(gone))

    directory.on_gone(listener)
    one, two = key_of(key_text("one")), key_of(key_text("two"))
    directory.adopt(meta_of(tenant_of(1, one, two), version=2))
    assert [set(gone) for gone in told] == [{"operatoraaaa", "tenantaaaaaa"}]
    directory.adopt(meta_of(tenant_of(1, two, version=3), version=3))
    assert set(told[-1]) == {"oneaaaaaaaaa"}
    assert isinstance(told[-1]["oneaaaaaaaaa"], Unauthenticated)
    directory.adopt(meta_of(tenant_of(1, two, version=4, state="suspended"), version=4))
    assert isinstance(told[-1]["twoaaaaaaaaa"], Forbidden)
    directory.adopt(meta_of(tenant_of(1, two, version=5), version=5))
    assert len(told) == 3
