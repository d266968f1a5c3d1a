"""For authors of agents: one execution of an agent, wrapped; and the tools of the server as typed methods.

```python
async with connect("https://memory.example.org/mcp", token=token) as memory:
    async with memory.run("reviewer", task="Review the retry policy") as run:
        known = await run.retrieve("retry policy")
        run.learn("Full jitter keeps clients from returning together.")
        run.result = "Reviewed."
print(run.report)
```

Importing `contextdna` does not import this package: whoever only embeds the hub does not pay for the protocol.
"""

import logging

from contextdna.client.answers import (
    Attached,
    Begun,
    Delegated,
    Ended,
    Found,
    Hit,
    Logged,
    Recorded,
    Shared,
    Stored,
)
from contextdna.client.errors import AnswerInvalid, ClientError, Refused, ServerAway
from contextdna.client.execution import RunLimits
from contextdna.client.memory import Memory, connect
from contextdna.client.report import Kept, RunOutcome, RunReport, Unstored
from contextdna.client.requests import MemoryItem
from contextdna.client.retry import NO_RETRY, Retry
from contextdna.client.run import AgentRun, type_and_message

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the report says it; a program may log it too

__all__ = [
    "NO_RETRY",
    "AgentRun",
    "AnswerInvalid",
    "Attached",
    "Begun",
    "ClientError",
    "Delegated",
    "Ended",
    "Found",
    "Hit",
    "Kept",
    "Logged",
    "Memory",
    "MemoryItem",
    "Recorded",
    "Refused",
    "Retry",
    "RunLimits",
    "RunOutcome",
    "RunReport",
    "ServerAway",
    "Shared",
    "Stored",
    "Unstored",
    "connect",
    "type_and_message",
]
