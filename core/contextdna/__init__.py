"""contextdna: one shared, governed memory for a team of LLM agents.

``open_hub(settings)`` opens an installation, ``Hub.bind(principal)`` gives a caller its ``Workspace``: the one door.
"""

from contextdna.domain.artifacts import is_textual
from contextdna.domain.cursors import pack_cursor, unpack_cursor
from contextdna.domain.delegation import DelegationReport, DelegationRequest
from contextdna.domain.events import EventPage
from contextdna.domain.retrieval import one_line
from contextdna.domain.rotation import RotationReport
from contextdna.domain.sessions import BeginRequest, BegunSession, EndReport
from contextdna.domain.sharing import ShareReport
from contextdna.domain.validation import parse_choice, parse_level
from contextdna.errors import (
    AccessDenied,
    Conflict,
    ContextDnaError,
    IntegrityFault,
    InvalidInput,
    LimitExceeded,
    NotFound,
    SessionInvalid,
    SettingsInvalid,
    StorageUnavailable,
)
from contextdna.hub import Events, Health, Hub, Loops, Workspace, open_hub
from contextdna.values.artifact import Artifact, ArtifactDraft
from contextdna.values.audit import AuditEntry, AuditFault, AuditReport, Outcome, Risk
from contextdna.values.event import Event, EventName
from contextdna.values.ids import AgentId, EventId, ProjectId, RecordId, SessionId
from contextdna.values.level import LEVELS_BY_LABEL, Level
from contextdna.values.loop import (
    Decision,
    FollowUp,
    FollowUpPage,
    GateState,
    Loop,
    LoopDraft,
    LoopOutcome,
    LoopPage,
    LoopRecord,
    LoopStatus,
)
from contextdna.values.memory import (
    MEMORY_TYPES,
    ForgetReport,
    Memory,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    OnDuplicate,
    StoredMemory,
    StoreStatus,
)
from contextdna.values.principal import Principal, Role
from contextdna.values.project import ProjectOverview
from contextdna.values.record import Kind, Record, Tier
from contextdna.values.search import Context, ContextQuery, Hit
from contextdna.values.settings import (
    BelowGate,
    Gates,
    HubSettings,
    Limits,
    ReadAudit,
    RetentionSettings,
    SearchSettings,
    WorkSettings,
)
from contextdna.values.turn import ConversationSummary, Turn, TurnDraft

__all__ = [
    "LEVELS_BY_LABEL",
    "MEMORY_TYPES",
    "AccessDenied",
    "AgentId",
    "Artifact",
    "ArtifactDraft",
    "AuditEntry",
    "AuditFault",
    "AuditReport",
    "BeginRequest",
    "BegunSession",
    "BelowGate",
    "Conflict",
    "Context",
    "ContextDnaError",
    "ContextQuery",
    "ConversationSummary",
    "Decision",
    "DelegationReport",
    "DelegationRequest",
    "EndReport",
    "Event",
    "EventId",
    "EventName",
    "EventPage",
    "Events",
    "FollowUp",
    "FollowUpPage",
    "ForgetReport",
    "GateState",
    "Gates",
    "Health",
    "Hit",
    "Hub",
    "HubSettings",
    "IntegrityFault",
    "InvalidInput",
    "Kind",
    "Level",
    "LimitExceeded",
    "Limits",
    "Loop",
    "LoopDraft",
    "LoopOutcome",
    "LoopPage",
    "LoopRecord",
    "LoopStatus",
    "Loops",
    "Memory",
    "MemoryChange",
    "MemoryDraft",
    "MemorySelection",
    "NotFound",
    "OnDuplicate",
    "Outcome",
    "Principal",
    "ProjectId",
    "ProjectOverview",
    "ReadAudit",
    "Record",
    "RecordId",
    "RetentionSettings",
    "Risk",
    "Role",
    "RotationReport",
    "SearchSettings",
    "SessionId",
    "SessionInvalid",
    "SettingsInvalid",
    "ShareReport",
    "StorageUnavailable",
    "StoreStatus",
    "StoredMemory",
    "Tier",
    "Turn",
    "TurnDraft",
    "WorkSettings",
    "Workspace",
    "is_textual",
    "one_line",
    "open_hub",
    "pack_cursor",
    "parse_choice",
    "parse_level",
    "unpack_cursor",
]
