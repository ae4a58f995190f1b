from google.protobuf import duration_pb2 as _duration_pb2
from permitd.v1 import budget_pb2 as _budget_pb2
from permitd.v1 import permit_pb2 as _permit_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionRequest(_message.Message):
    __slots__ = ("hello", "acquire", "report", "cancel", "extend")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    acquire: _containers.RepeatedCompositeFieldContainer[_permit_pb2.AcquireRequest]
    report: _containers.RepeatedCompositeFieldContainer[_permit_pb2.ReportRequest]
    cancel: _containers.RepeatedScalarFieldContainer[int]
    extend: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., acquire: _Optional[_Iterable[_Union[_permit_pb2.AcquireRequest, _Mapping]]] = ..., report: _Optional[_Iterable[_Union[_permit_pb2.ReportRequest, _Mapping]]] = ..., cancel: _Optional[_Iterable[int]] = ..., extend: _Optional[_Iterable[str]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("session_id", "client", "tenant", "progress", "owners")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    client: str
    tenant: str
    progress: bool
    owners: bool
    def __init__(self, session_id: _Optional[str] = ..., client: _Optional[str] = ..., tenant: _Optional[str] = ..., progress: bool = ..., owners: bool = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("welcome", "queued", "granted", "refused", "reported", "shares", "owners")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    queued: _containers.RepeatedCompositeFieldContainer[_permit_pb2.Queued]
    granted: _containers.RepeatedCompositeFieldContainer[Granted]
    refused: _containers.RepeatedCompositeFieldContainer[Refused]
    reported: _containers.RepeatedCompositeFieldContainer[_permit_pb2.ReportResponse]
    shares: _containers.RepeatedCompositeFieldContainer[LocalShare]
    owners: _containers.RepeatedCompositeFieldContainer[Owner]
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., queued: _Optional[_Iterable[_Union[_permit_pb2.Queued, _Mapping]]] = ..., granted: _Optional[_Iterable[_Union[Granted, _Mapping]]] = ..., refused: _Optional[_Iterable[_Union[Refused, _Mapping]]] = ..., reported: _Optional[_Iterable[_Union[_permit_pb2.ReportResponse, _Mapping]]] = ..., shares: _Optional[_Iterable[_Union[LocalShare, _Mapping]]] = ..., owners: _Optional[_Iterable[_Union[Owner, _Mapping]]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("session_id", "resumed", "grace", "address")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    resumed: bool
    grace: _duration_pb2.Duration
    address: str
    def __init__(self, session_id: _Optional[str] = ..., resumed: bool = ..., grace: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., address: _Optional[str] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("request_id", "permit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PERMIT_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    permit: _permit_pb2.Permit
    def __init__(self, request_id: _Optional[int] = ..., permit: _Optional[_Union[_permit_pb2.Permit, _Mapping]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("request_id", "permit_id", "code", "reason", "message", "limit", "retry_after")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    permit_id: str
    code: int
    reason: str
    message: str
    limit: str
    retry_after: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[int] = ..., permit_id: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., limit: _Optional[str] = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Owner(_message.Message):
    __slots__ = ("provider", "key", "address")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    key: str
    address: str
    def __init__(self, provider: _Optional[str] = ..., key: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class LocalShare(_message.Message):
    __slots__ = ("provider", "key", "limits", "valid_for")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_FIELD_NUMBER: _ClassVar[int]
    provider: str
    key: str
    limits: _containers.RepeatedCompositeFieldContainer[_budget_pb2.Limit]
    valid_for: _duration_pb2.Duration
    def __init__(self, provider: _Optional[str] = ..., key: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[_budget_pb2.Limit, _Mapping]]] = ..., valid_for: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
