"""Tools: send_signal, acknowledge_signal, await_signal."""

from typing import Any

from pydantic import BaseModel, Field

from contextdna import (
    AcknowledgementWait,
    AgentId,
    Circle,
    InvalidInput,
    SignalDraft,
    SignalId,
    SignalWait,
    parse_choice,
)
from contextdna_tools.arguments import Arguments, Object, Texts, shown_time
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

CIRCLES = {circle.value: circle for circle in Circle}


class SendSignal(Arguments):
    """Tell agents something that they wait for, such as that a phase may begin: by name, or all of your team, swarm or
    project, those who come later too. Nobody else sees it. Or withdraw one."""

    name: str = Field("", description="Such as phase-2-go")
    target_agent_ids: Texts = Field([], description="Who must acknowledge")
    circle: str = Field("", description="team, swarm or project (coordinators)")
    payload: Object = Field({}, description="JSON object for them")
    expires_in_s: float = Field(3600.0, description="Up to a week")
    withdraw: str = Field("", description="Take back this signal_id instead")


class SendResult(BaseModel):
    """Answer of send_signal."""

    signal_id: str
    withdrawn: bool = False
    expires_at: str | None = None
    targets: list[str] = []
    unknown_agents: list[str] = []
    gone_agents: list[str] = []


async def send_signal(call: Call, args: SendSignal) -> SendResult:
    """Send a signal, or take one back."""
    workspace = call.workspace(args)
    if args.withdraw:
        if args.name or args.target_agent_ids or args.circle:
            raise InvalidInput("withdraw and a new signal", code="withdraw_and_send", hint="Give one of the two.")
        withdrawn = await workspace.signals.withdraw(SignalId(args.withdraw))
        return SendResult(signal_id=args.withdraw, withdrawn=withdrawn)
    sent = await workspace.signals.send(
        SignalDraft(
            name=args.name,
            targets=tuple(AgentId(target) for target in dict.fromkeys(args.target_agent_ids)),
            circle=parse_choice(args.circle, CIRCLES, name="circle") if args.circle else None,
            payload=args.payload,
            expires_in_s=args.expires_in_s,
        )
    )
    return SendResult(
        signal_id=sent.id,
        expires_at=shown_time(sent.expires_at),
        targets=list(sent.targets),
        unknown_agents=list(sent.unknown_targets),
        gone_agents=list(sent.gone_targets),
    )


class AcknowledgeSignal(Arguments):
    """Confirm a signal that you got, once: its sender may be waiting for that."""

    signal_id: str = Field(description="From await_signal")
    note: str = Field("", description="For the sender only")


class AcknowledgeResult(BaseModel):
    """Answer of acknowledge_signal."""

    signal_id: str
    acknowledged_at: str
    already: bool


async def acknowledge_signal(call: Call, args: AcknowledgeSignal) -> AcknowledgeResult:
    """Acknowledge."""
    report = await call.workspace(args).signals.acknowledge(SignalId(args.signal_id), note=args.note)
    return AcknowledgeResult(signal_id=report.signal_id, acknowledged_at=shown_time(report.at), already=report.already)


class AwaitSignal(Arguments):
    """Block until a signal for you comes, or is there already; acknowledge it to get the next. With signal_id: until
    the signal you sent is acknowledged. Ends at the deadline, or when the sender is gone."""

    name: str = Field("", description="Only of this name")
    sender: str = Field("", description="Only of this agent; ends early if it is gone")
    signal_id: str = Field("", description="Yours: wait for acknowledgements")
    count: int | None = Field(None, description="How many; default all")
    timeout_s: float = Field(50.0, description="0 looks only; more than 50 if your client waits so long")


class SignalView(BaseModel):
    """A signal as it was got."""

    id: str
    name: str
    sender: str
    sent_at: str
    payload: dict[str, Any]
    expires_at: str = ""


class AcknowledgedView(BaseModel):
    """One acknowledgement."""

    agent_id: str
    at: str
    note: str = ""


class AwaitResult(BaseModel):
    """Answer of await_signal."""

    outcome: str = Field(description="signalled, acknowledged, timed_out, sender_gone, targets_gone or withdrawn")
    waited_s: float
    signal: SignalView | None = None
    acknowledged: list[AcknowledgedView] = []
    missing: list[str] = []
    gone: list[str] = []
    unknown_agents: list[str] = []


async def await_signal(call: Call, args: AwaitSignal) -> AwaitResult:
    """Wait for a signal, or for acknowledgements."""
    signals = call.workspace(args).signals
    if not args.signal_id:
        if args.count is not None:
            raise InvalidInput("count needs signal_id", code="count_without_signal", hint="Name the signal you sent.")
        return _signalled(
            await signals.wait_for(
                name=args.name, sender=AgentId(args.sender), timeout_s=args.timeout_s, on_progress=call.progress
            )
        )
    if args.name or args.sender:
        raise InvalidInput("signal_id with name or sender", code="ids_and_filters", hint="Give one of the two.")
    return _acknowledged(
        await signals.wait_for_acknowledgements(
            SignalId(args.signal_id), count=args.count, timeout_s=args.timeout_s, on_progress=call.progress
        )
    )


def _signalled(wait: SignalWait) -> AwaitResult:
    got = wait.signal
    view = got and SignalView(
        id=got.id,
        name=got.name,
        sender=got.sender_id,
        sent_at=shown_time(got.sent_at),
        expires_at=shown_time(got.expires_at),
        payload=dict(got.payload),
    )
    unknown = list(wait.unknown_agents)
    return AwaitResult(outcome=wait.outcome, waited_s=round(wait.waited_s, 3), signal=view, unknown_agents=unknown)


def _acknowledged(wait: AcknowledgementWait) -> AwaitResult:
    return AwaitResult(
        outcome=wait.outcome,
        waited_s=round(wait.waited_s, 3),
        acknowledged=[
            AcknowledgedView(agent_id=one.agent_id, at=shown_time(one.at), note=one.note)
            for one in wait.status.acknowledged
        ],
        missing=list(wait.status.missing),
        gone=list(wait.status.gone),
    )


SEND_SIGNAL = Tool("send_signal", SendSignal, SendResult, send_signal, hints(), WRITES)
ACKNOWLEDGE_SIGNAL = Tool(
    "acknowledge_signal", AcknowledgeSignal, AcknowledgeResult, acknowledge_signal, hints(idempotent=True), WRITES
)
AWAIT_SIGNAL = Tool("await_signal", AwaitSignal, AwaitResult, await_signal, hints(idempotent=True), READS)
