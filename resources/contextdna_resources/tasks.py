"""Resource: one task in full."""

from contextdna import RecordId, Workspace
from contextdna_resources.contents import Contents, json_contents, record_fields, shown_time
from contextdna_resources.uris import Noun, ResourceUri


async def read_task(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give a task with its status, result and what it waits for."""
    task = await workspace.tasks.get(RecordId(uri.item_id))
    record = task.record
    return json_contents(
        uri,
        {
            **record_fields(record, task.granted_by),
            "title": task.title,
            "status": task.status.value,
            "assignee": task.assignee or None,
            "priority": record.importance,
            "version": record.version,
            "updated_at": shown_time(record.updated_at),
            "due_at": shown_time(task.due_at),
            "description": task.description or None,
            "result": task.result or None,
            "result_ids": list(task.result_ids) or None,
            "depends_on": [str(ResourceUri(Noun.TASK, record.project_id, target)) for target in task.depends_on],
            "waits_for": [str(ResourceUri(Noun.TASK, record.project_id, target)) for target in task.waits_for],
            "waiting": task.waiting,
            "begun_in": task.session_id or None,
        },
    )
