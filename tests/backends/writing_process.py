"""A process that opens a database and writes to it: `python writing_process.py <file> <name> <records>`.

It prints `opened`, then each record's id once the record is durable. With 0 records it only opens.
"""

import asyncio
import sys
from pathlib import Path

from contextdna.backends.sqlite import open_sqlite
from contextdna.ports.database import Transaction
from tests.backends.samples import PROJECT, audit_entry, audit_head, indexed


async def main(path: Path, name: str, records: int) -> None:
    """Write records, each with the next entry of the one audit chain: a lost update would break the chain."""
    async with open_sqlite(path) as database:
        print("opened", flush=True)  # noqa: T201 - the protocol with the test
        for number in range(records):
            record_id = f"mem_{name}_{number:05d}"

            async def unit(tx: Transaction, record_id: str = record_id) -> None:
                await tx.records.insert([indexed(record_id, "shared", name)])
                head = await tx.audit.head(PROJECT)
                seq = head.seq + 1 if head else 1
                await tx.audit.append([audit_entry(seq, record_id)], audit_head(seq))

            await database.write(unit)
            print(record_id, flush=True)  # noqa: T201 - the protocol with the test


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
