import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LockMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCK_MODE_UNSPECIFIED: _ClassVar[LockMode]
    LOCK_MODE_EXCLUSIVE: _ClassVar[LockMode]
    LOCK_MODE_SHARED: _ClassVar[LockMode]
    LOCK_MODE_PERMITS: _ClassVar[LockMode]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_RELEASED: _ClassVar[EndReason]
    END_REASON_EXPIRED: _ClassVar[EndReason]
    END_REASON_STOLEN: _ClassVar[EndReason]
    END_REASON_FORCED: _ClassVar[EndReason]
    END_REASON_SESSION_ENDED: _ClassVar[EndReason]
    END_REASON_CANCELLED: _ClassVar[EndReason]
    END_REASON_TIMED_OUT: _ClassVar[EndReason]
    END_REASON_REFUSED: _ClassVar[EndReason]
LOCK_MODE_UNSPECIFIED: LockMode
LOCK_MODE_EXCLUSIVE: LockMode
LOCK_MODE_SHARED: LockMode
LOCK_MODE_PERMITS: LockMode
END_REASON_UNSPECIFIED: EndReason
END_REASON_RELEASED: EndReason
END_REASON_EXPIRED: EndReason
END_REASON_STOLEN: EndReason
END_REASON_FORCED: EndReason
END_REASON_SESSION_ENDED: EndReason
END_REASON_CANCELLED: EndReason
END_REASON_TIMED_OUT: EndReason
END_REASON_REFUSED: EndReason

class Grant(_message.Message):
    __slots__ = ("name", "token", "lock_id", "expires_in", "session")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    lock_id: str
    expires_in: _duration_pb2.Duration
    session: str
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ..., lock_id: _Optional[str] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., session: _Optional[str] = ...) -> None: ...

class HeldLock(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class HeldLocks(_message.Message):
    __slots__ = ("locks",)
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    locks: _containers.RepeatedCompositeFieldContainer[HeldLock]
    def __init__(self, locks: _Optional[_Iterable[_Union[HeldLock, _Mapping]]] = ...) -> None: ...

class GrantRef(_message.Message):
    __slots__ = ("lock_id", "name", "token")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    name: str
    token: int
    def __init__(self, lock_id: _Optional[str] = ..., name: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ("token", "mode", "permits", "session_id", "metadata", "held_for", "remaining", "why", "leaving", "count")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    HELD_FOR_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    token: int
    mode: LockMode
    permits: int
    session_id: str
    metadata: bytes
    held_for: _duration_pb2.Duration
    remaining: _duration_pb2.Duration
    why: str
    leaving: EndReason
    count: int
    def __init__(self, token: _Optional[int] = ..., mode: _Optional[_Union[LockMode, str]] = ..., permits: _Optional[int] = ..., session_id: _Optional[str] = ..., metadata: _Optional[bytes] = ..., held_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., why: _Optional[str] = ..., leaving: _Optional[_Union[EndReason, str]] = ..., count: _Optional[int] = ...) -> None: ...

class Lock(_message.Message):
    __slots__ = ("name", "capacity", "waiters", "holders", "holder_count", "closed_for")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    HOLDER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    capacity: int
    waiters: int
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    holder_count: int
    closed_for: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., capacity: _Optional[int] = ..., waiters: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., holder_count: _Optional[int] = ..., closed_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
