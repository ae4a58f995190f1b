from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Adapt(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADAPT_UNSPECIFIED: _ClassVar[Adapt]
    ADAPT_REFUSALS: _ClassVar[Adapt]
    ADAPT_LATENCY: _ClassVar[Adapt]

class Window(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW_UNSPECIFIED: _ClassVar[Window]
    WINDOW_BUCKET: _ClassVar[Window]
    WINDOW_FIXED: _ClassVar[Window]
    WINDOW_SLIDING: _ClassVar[Window]
    WINDOW_QUANTISED: _ClassVar[Window]

class Overflow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERFLOW_UNSPECIFIED: _ClassVar[Overflow]
    OVERFLOW_WAIT: _ClassVar[Overflow]
    OVERFLOW_REJECT: _ClassVar[Overflow]
ADAPT_UNSPECIFIED: Adapt
ADAPT_REFUSALS: Adapt
ADAPT_LATENCY: Adapt
WINDOW_UNSPECIFIED: Window
WINDOW_BUCKET: Window
WINDOW_FIXED: Window
WINDOW_SLIDING: Window
WINDOW_QUANTISED: Window
OVERFLOW_UNSPECIFIED: Overflow
OVERFLOW_WAIT: Overflow
OVERFLOW_REJECT: Overflow

class Limit(_message.Message):
    __slots__ = ("unit", "amount", "per", "burst", "window", "models", "tenants", "quantum", "phase", "adapt")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    QUANTUM_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ADAPT_FIELD_NUMBER: _ClassVar[int]
    unit: str
    amount: int
    per: _duration_pb2.Duration
    burst: int
    window: Window
    models: str
    tenants: str
    quantum: _duration_pb2.Duration
    phase: _timestamp_pb2.Timestamp
    adapt: Adapt
    def __init__(self, unit: _Optional[str] = ..., amount: _Optional[int] = ..., per: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., burst: _Optional[int] = ..., window: _Optional[_Union[Window, str]] = ..., models: _Optional[str] = ..., tenants: _Optional[str] = ..., quantum: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., phase: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., adapt: _Optional[_Union[Adapt, str]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("provider", "key", "limits", "queue", "tenants", "permit_ttl", "etag", "shadow", "schedule")
    class TenantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tenant
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tenant, _Mapping]] = ...) -> None: ...
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    PERMIT_TTL_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    key: str
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    queue: Queue
    tenants: _containers.MessageMap[str, Tenant]
    permit_ttl: _duration_pb2.Duration
    etag: str
    shadow: bool
    schedule: _containers.RepeatedCompositeFieldContainer[Scheduled]
    def __init__(self, provider: _Optional[str] = ..., key: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., queue: _Optional[_Union[Queue, _Mapping]] = ..., tenants: _Optional[_Mapping[str, Tenant]] = ..., permit_ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., etag: _Optional[str] = ..., shadow: bool = ..., schedule: _Optional[_Iterable[_Union[Scheduled, _Mapping]]] = ...) -> None: ...

class Scheduled(_message.Message):
    __slots__ = ("hours", "limit")
    HOURS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    hours: str
    limit: Limit
    def __init__(self, hours: _Optional[str] = ..., limit: _Optional[_Union[Limit, _Mapping]] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("max_waiting", "max_wait", "overflow")
    MAX_WAITING_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    OVERFLOW_FIELD_NUMBER: _ClassVar[int]
    max_waiting: int
    max_wait: _duration_pb2.Duration
    overflow: Overflow
    def __init__(self, max_waiting: _Optional[int] = ..., max_wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., overflow: _Optional[_Union[Overflow, str]] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("weight", "max_waiting", "max_percent", "min_percent")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITING_FIELD_NUMBER: _ClassVar[int]
    MAX_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MIN_PERCENT_FIELD_NUMBER: _ClassVar[int]
    weight: int
    max_waiting: int
    max_percent: int
    min_percent: int
    def __init__(self, weight: _Optional[int] = ..., max_waiting: _Optional[int] = ..., max_percent: _Optional[int] = ..., min_percent: _Optional[int] = ...) -> None: ...

class BudgetState(_message.Message):
    __slots__ = ("budget", "limits", "waiting", "in_flight", "paused", "tenants", "granted_total", "refused_total", "rate_limited_total", "exhausted", "exhausted_until", "owner", "shadow")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REFUSED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_UNTIL_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    budget: Budget
    limits: _containers.RepeatedCompositeFieldContainer[LimitState]
    waiting: int
    in_flight: int
    paused: bool
    tenants: _containers.RepeatedCompositeFieldContainer[TenantState]
    granted_total: int
    refused_total: int
    rate_limited_total: int
    exhausted: bool
    exhausted_until: _timestamp_pb2.Timestamp
    owner: str
    shadow: ShadowState
    def __init__(self, budget: _Optional[_Union[Budget, _Mapping]] = ..., limits: _Optional[_Iterable[_Union[LimitState, _Mapping]]] = ..., waiting: _Optional[int] = ..., in_flight: _Optional[int] = ..., paused: bool = ..., tenants: _Optional[_Iterable[_Union[TenantState, _Mapping]]] = ..., granted_total: _Optional[int] = ..., refused_total: _Optional[int] = ..., rate_limited_total: _Optional[int] = ..., exhausted: bool = ..., exhausted_until: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., owner: _Optional[str] = ..., shadow: _Optional[_Union[ShadowState, _Mapping]] = ...) -> None: ...

class ShadowState(_message.Message):
    __slots__ = ("since", "waiting", "in_flight", "granted_total", "waited_total", "wait_total", "wait_longest", "refused_total", "refused")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SINCE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WAITED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WAIT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WAIT_LONGEST_FIELD_NUMBER: _ClassVar[int]
    REFUSED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    waiting: int
    in_flight: int
    granted_total: int
    waited_total: int
    wait_total: _duration_pb2.Duration
    wait_longest: _duration_pb2.Duration
    refused_total: int
    refused: _containers.ScalarMap[str, int]
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., waiting: _Optional[int] = ..., in_flight: _Optional[int] = ..., granted_total: _Optional[int] = ..., waited_total: _Optional[int] = ..., wait_total: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., wait_longest: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., refused_total: _Optional[int] = ..., refused: _Optional[_Mapping[str, int]] = ...) -> None: ...

class LimitState(_message.Message):
    __slots__ = ("configured", "effective_amount", "level", "frozen_until", "source", "learned_from", "learned_at", "header_amount", "cushion", "capacity")
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FROZEN_UNTIL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FROM_FIELD_NUMBER: _ClassVar[int]
    LEARNED_AT_FIELD_NUMBER: _ClassVar[int]
    HEADER_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    CUSHION_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    configured: Limit
    effective_amount: int
    level: int
    frozen_until: _timestamp_pb2.Timestamp
    source: str
    learned_from: str
    learned_at: _timestamp_pb2.Timestamp
    header_amount: int
    cushion: int
    capacity: int
    def __init__(self, configured: _Optional[_Union[Limit, _Mapping]] = ..., effective_amount: _Optional[int] = ..., level: _Optional[int] = ..., frozen_until: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., learned_from: _Optional[str] = ..., learned_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., header_amount: _Optional[int] = ..., cushion: _Optional[int] = ..., capacity: _Optional[int] = ...) -> None: ...

class TenantState(_message.Message):
    __slots__ = ("tenant", "waiting", "in_flight", "granted_total")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    waiting: int
    in_flight: int
    granted_total: int
    def __init__(self, tenant: _Optional[str] = ..., waiting: _Optional[int] = ..., in_flight: _Optional[int] = ..., granted_total: _Optional[int] = ...) -> None: ...
