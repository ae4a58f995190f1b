"""A permit in the hand. However it ends, its permit is settled: by a report, by a cancel, by the end of its block, or by
being forgotten."""

from __future__ import annotations

import datetime
import warnings
from typing import Optional

from . import _errors as errors
from ._driver import Driver
from ._grant import SERVER, Grant
from ._report import CANCELLED, FAILED, Report
from ._table import AdviceReply
from ._usage import Usage


class Guard:
    """What both kinds of permits share. See :class:`permitd.Permit` and :class:`permitd.aio.Permit`."""

    __slots__ = ("_driver", "_grant")

    def __init__(self, grant: Grant, driver: Driver) -> None:
        self._grant = grant
        self._driver = driver

    @property
    def permit_id(self) -> str:
        """The server's opaque id; empty if no server granted the permit."""
        return self._grant.permit_id

    @property
    def provider(self) -> str:
        """The API to be called."""
        return self._grant.provider

    @property
    def key(self) -> str:
        """The alias of the credential to be used."""
        return self._grant.key

    @property
    def source(self) -> str:
        """Who granted it: ``"server"``, ``"local_share"``, or ``"fail_open"`` for nobody."""
        return self._grant.source

    @property
    def is_managed(self) -> bool:
        """Whether a server knows of the permit. Others are given by the outage policy while no server can be reached."""
        return self._grant.source == SERVER

    @property
    def charged(self) -> Usage:
        """What the permit holds."""
        return self._grant.charged

    @property
    def waited(self) -> float:
        """Seconds that the request was in the queue."""
        return self._grant.waited

    @property
    def expires_at(self) -> Optional[datetime.datetime]:
        """When the permit was to end by itself, by the server's clock, as it was granted. While this object lives the client
        extends it. ``None`` if no server granted it."""
        return self._grant.expires_at

    def report_detached(self, report: Report) -> None:
        """Settles the permit without waiting for advice."""
        self._settle(report, None)

    def cancel(self) -> None:
        """Gives the permit back unused: the call was certainly not sent. Nothing if it is settled already."""
        if not self._grant.is_settled:
            self._settle(CANCELLED, None)

    def _settle(self, report: Report, reply: Optional[AdviceReply]) -> None:
        wire = report.to_wire()
        if self._grant.is_settled:
            raise errors.invalid("permit", "was reported already; one permit is for one call")
        self._driver.mailbox.check()
        self._grant.is_settled = True
        self._driver.settle(self._grant, wire, reply)

    def _leave(self) -> None:
        """The end of its block: what was not reported may have been sent, so its charge stays and its slot returns."""
        if not self._grant.is_settled:
            self._grant.is_settled = True
            self._driver.settle(self._grant, FAILED.to_wire(), None)

    def __del__(self) -> None:
        grant = getattr(self, "_grant", None)
        if grant is not None and not grant.is_settled and not self._driver.mailbox.is_shut:
            name = f"{grant.provider}/{grant.key or 'default'}"
            self._leave()
            warnings.warn(f"a permit of {name} was dropped without a report", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.provider}/{self.key or 'default'} from {self.source}>"


def give_back(driver: Driver, grant: Grant) -> None:
    """A grant that crossed a cancel: nobody has had it."""
    grant.is_settled = True
    driver.settle(grant, CANCELLED.to_wire(), None)
