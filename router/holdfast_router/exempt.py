"""Which sections are never refused for load: what holders need to keep, learn of, or let go of what they have."""

from __future__ import annotations

from holdfast.wire.frames import EXEMPT, Kind, Section


def may_be_exempt(kinds: bytes) -> bool:
    """What can be said before a section is read whole."""
    return not kinds.translate(None, EXEMPT)


def is_exempt(section: Section) -> bool:
    """Whether every operation of ``section`` is exempt. Ending another's session is not."""
    kinds = section.kinds
    if not may_be_exempt(kinds):
        return False
    return not any(kinds[at] == Kind.END and options.session for at, options in section.options.items())
