from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_STANDARD: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SUCCESS: _ClassVar[Outcome]
    OUTCOME_RATE_LIMITED: _ClassVar[Outcome]
    OUTCOME_CONCURRENCY_LIMITED: _ClassVar[Outcome]
    OUTCOME_OVERLOADED: _ClassVar[Outcome]
    OUTCOME_ACCELERATION_LIMITED: _ClassVar[Outcome]
    OUTCOME_QUOTA_EXHAUSTED: _ClassVar[Outcome]
    OUTCOME_TOO_LARGE: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_STANDARD: Priority
PRIORITY_BATCH: Priority
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SUCCESS: Outcome
OUTCOME_RATE_LIMITED: Outcome
OUTCOME_CONCURRENCY_LIMITED: Outcome
OUTCOME_OVERLOADED: Outcome
OUTCOME_ACCELERATION_LIMITED: Outcome
OUTCOME_QUOTA_EXHAUSTED: Outcome
OUTCOME_TOO_LARGE: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_CANCELLED: Outcome

class Usage(_message.Message):
    __slots__ = ("requests", "tokens", "input_tokens", "output_tokens", "max_output_tokens", "cached_input_tokens", "other")
    class OtherEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    requests: int
    tokens: int
    input_tokens: int
    output_tokens: int
    max_output_tokens: int
    cached_input_tokens: int
    other: _containers.ScalarMap[str, int]
    def __init__(self, requests: _Optional[int] = ..., tokens: _Optional[int] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., cached_input_tokens: _Optional[int] = ..., other: _Optional[_Mapping[str, int]] = ...) -> None: ...

class AcquireRequest(_message.Message):
    __slots__ = ("provider", "key", "tokens", "estimate", "model", "tenant", "priority", "max_wait", "count", "request_id", "traceparent")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    provider: str
    key: str
    tokens: int
    estimate: Usage
    model: str
    tenant: str
    priority: Priority
    max_wait: _duration_pb2.Duration
    count: int
    request_id: int
    traceparent: str
    def __init__(self, provider: _Optional[str] = ..., key: _Optional[str] = ..., tokens: _Optional[int] = ..., estimate: _Optional[_Union[Usage, _Mapping]] = ..., model: _Optional[str] = ..., tenant: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., max_wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., count: _Optional[int] = ..., request_id: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ("queued", "granted")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    queued: Queued
    granted: Permit
    def __init__(self, queued: _Optional[_Union[Queued, _Mapping]] = ..., granted: _Optional[_Union[Permit, _Mapping]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("request_id", "position", "estimated_wait", "held_by", "limit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_FIELD_NUMBER: _ClassVar[int]
    HELD_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    position: int
    estimated_wait: _duration_pb2.Duration
    held_by: str
    limit: str
    def __init__(self, request_id: _Optional[int] = ..., position: _Optional[int] = ..., estimated_wait: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., held_by: _Optional[str] = ..., limit: _Optional[str] = ...) -> None: ...

class Permit(_message.Message):
    __slots__ = ("permit_id", "provider", "key", "expires_at", "ttl", "waited", "charged")
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    CHARGED_FIELD_NUMBER: _ClassVar[int]
    permit_id: str
    provider: str
    key: str
    expires_at: _timestamp_pb2.Timestamp
    ttl: _duration_pb2.Duration
    waited: _duration_pb2.Duration
    charged: Usage
    def __init__(self, permit_id: _Optional[str] = ..., provider: _Optional[str] = ..., key: _Optional[str] = ..., expires_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., waited: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., charged: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("permit_id", "outcome", "retry_after", "actual", "http_status", "headers", "body", "latency")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    permit_id: str
    outcome: Outcome
    retry_after: _duration_pb2.Duration
    actual: Usage
    http_status: int
    headers: _containers.ScalarMap[str, str]
    body: bytes
    latency: _duration_pb2.Duration
    def __init__(self, permit_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., actual: _Optional[_Union[Usage, _Mapping]] = ..., http_status: _Optional[int] = ..., headers: _Optional[_Mapping[str, str]] = ..., body: _Optional[bytes] = ..., latency: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("permit_id", "outcome", "settled", "retry", "retry_after")
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    permit_id: str
    outcome: Outcome
    settled: bool
    retry: bool
    retry_after: _duration_pb2.Duration
    def __init__(self, permit_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., settled: bool = ..., retry: bool = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
