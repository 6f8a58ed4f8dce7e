"""All mutants, by name. Each is defined once: what tests elsewhere seed themselves is taken from there."""

from __future__ import annotations

from . import (
    admission,
    audit,
    edges,
    engine,
    fronts,
    locks,
    machine,
    node,
    router,
    sdk,
    shares,
    storage,
    tenants,
    watches,
)
from .mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *engine.MUTANTS,
    *audit.MUTANTS,
    *storage.MUTANTS,
    *machine.MUTANTS,
    *locks.MUTANTS,
    *shares.MUTANTS,
    *node.MUTANTS,
    *router.MUTANTS,
    *admission.MUTANTS,
    *sdk.MUTANTS,
    *edges.MUTANTS,
    *fronts.MUTANTS,
    *tenants.MUTANTS,
    *watches.MUTANTS,
)


def mutant(name: str) -> Mutant:
    """Raises LookupError for a name that no mutant has."""
    for each in MUTANTS:
        if each.name == name:
            return each
    raise LookupError(f"no mutant is called {name!r}")
