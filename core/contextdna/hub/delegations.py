"""Delegations as a contract: what a caller gave or received, and what became of it."""

from contextdna.domain import contracts
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.values.ids import DelegationId
from contextdna.values.session import Delegation, DelegationStatus, Direction


class Delegations:
    """The delegation part of a workspace. ``Workspace.delegate`` makes them, ``Workspace.end_session`` fulfils them."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def accept(self, delegation_id: DelegationId = DelegationId("")) -> Delegation:
        """Accept a delegation as its child, without an id that of the call's session; resuming does so too.

        Raises:
            Conflict: ``delegation_over``.
        """
        return await self._door.write(
            self._caller, Action.ACCEPT_DELEGATION, lambda op: contracts.accept(op, delegation_id)
        )

    async def decline(
        self, delegation_id: DelegationId = DelegationId(""), *, reason: str = ""
    ) -> contracts.DelegationEnd:
        """Decline a delegation as its child, before it is accepted; the session that came with it ends.

        The reason, up to 4 KiB, is shown where the delegation is listed.

        Raises:
            Conflict: ``delegation_over`` or ``delegation_accepted``.
        """
        return await self._door.write(
            self._caller, Action.DECLINE_DELEGATION, lambda op: contracts.decline(op, delegation_id, reason=reason)
        )

    async def revoke(self, delegation_id: DelegationId) -> contracts.DelegationEnd:
        """Take a delegation back, as its parent, an agent above it or the role system; all below it ends at once.

        Raises:
            Conflict: ``delegation_over``.
        """
        return await self._door.write(
            self._caller, Action.REVOKE_DELEGATION, lambda op: contracts.revoke(op, delegation_id)
        )

    async def list(
        self,
        *,
        direction: Direction = Direction.ANY,
        status: DelegationStatus | None = None,
        before: DelegationId = DelegationId(""),
        limit: int = 50,
    ) -> tuple[contracts.DelegationView, ...]:
        """List delegations that the caller gave or received, the newest first; ``before`` one for the next page.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
            InvalidInput: ``cursor_invalid``: ``before`` is none of them.
        """
        return (await self.page(direction=direction, status=status, before=before, limit=limit)).delegations

    async def page(
        self,
        *,
        direction: Direction = Direction.ANY,
        status: DelegationStatus | None = None,
        before: DelegationId = DelegationId(""),
        limit: int = 50,
    ) -> contracts.DelegationPage:
        """List them and tell whether there are more: then ``cursor`` is the ``before`` of the next page.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
            InvalidInput: ``cursor_invalid``: ``before`` is none of them.
        """
        return await self._door.read(
            self._caller,
            Action.LIST_DELEGATIONS,
            lambda op: contracts.listing(op, direction=direction, status=status, before=before, limit=limit),
        )
