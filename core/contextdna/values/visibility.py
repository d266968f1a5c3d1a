"""The access rule, as a pure function. Every backend's query holds the same rule; a property test keeps them equal."""

from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import Record, RecordRef


def visible(reader: Reader, record: Record | RecordRef, *, granted: bool) -> bool:
    """Tell whether a reader may see a record.

    Args:
        reader: Who asks, in which project.
        record: What is asked for.
        granted: Whether a grant on this record to this agent is in force.
    """
    if record.project_id != reader.project_id:
        return False
    if granted or record.owner_id == reader.agent_id:
        return True
    match record.level:
        case Level.PRIVATE:
            return False
        case Level.TEAM:
            return reader.team_id != "" and record.team_id == reader.team_id
        case Level.SWARM:
            return reader.swarm_id != "" and record.swarm_id == reader.swarm_id
        case Level.PROJECT:
            return True
        case Level.SYSTEM:
            return reader.role is Role.SYSTEM
