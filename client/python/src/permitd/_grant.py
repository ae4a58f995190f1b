"""What is known of a permit, and who has to hear of its end."""

from __future__ import annotations

import datetime
from typing import Dict, Optional

from . import _convert as convert
from . import _usage
from ._usage import Usage
from .v1 import permit_pb2 as pb

#: Who granted a permit: a permitd server;
SERVER = "server"
#: this client's local share, while no server could be reached;
LOCAL_SHARE = "local_share"
#: nobody, the outage policy being to go on.
FAIL_OPEN = "fail_open"


class LocalHold:
    """A permit of the local share: what it holds there."""

    __slots__ = ("amounts", "budget", "charges", "outage")

    def __init__(self, outage: int, budget: str, charges: Dict[int, int], amounts: Dict[str, int]) -> None:
        #: Outages are counted, so that permits of an earlier one are told apart.
        self.outage = outage
        self.budget = budget
        #: What was taken, by the number of the limit.
        self.charges = charges
        #: What was estimated, by unit.
        self.amounts = amounts


class Grant:
    """One permit, as it was granted. Settled at most once; ``is_settled`` says whether that was done."""

    __slots__ = ("_wire", "hold", "is_settled", "source", "waited_locally")

    def __init__(
        self, wire: pb.Permit, source: str = SERVER, hold: Optional[LocalHold] = None, waited: Optional[float] = None
    ) -> None:
        # Read when somebody asks: few do.
        self._wire = wire
        self.source = source
        self.hold = hold
        self.waited_locally = waited
        self.is_settled = False

    @property
    def permit_id(self) -> str:
        """The server's opaque id; empty if no server granted it."""
        return self._wire.permit_id

    @property
    def provider(self) -> str:
        """The API to be called."""
        return self._wire.provider

    @property
    def key(self) -> str:
        """The alias of the credential to be used."""
        return self._wire.key

    @property
    def charged(self) -> Usage:
        """What the permit holds."""
        return _usage.from_wire(self._wire.charged)

    @property
    def waited(self) -> float:
        """Seconds in the queue."""
        if self.waited_locally is not None:
            return self.waited_locally
        return convert.from_duration(self._wire.waited)

    @property
    def expires_at(self) -> Optional[datetime.datetime]:
        """When the permit was to end by itself, by the server's clock, as it was granted."""
        return convert.from_timestamp(self._wire.expires_at) if self._wire.HasField("expires_at") else None
