// Visits a running server with both TypeScript clients, over each transport that they have, in each era.
// Usage: node visit.mjs '{"http": URL, "sse": URL, "token": TEXT, "command": [PROGRAM, ...ARGUMENTS]}'
// Prints a line for each visit; fails unless all went well.

import assert from "node:assert/strict";

import * as second from "@modelcontextprotocol/client";
import { StdioClientTransport as SecondStdio } from "@modelcontextprotocol/client/stdio";
import { Client as FirstClient } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport as FirstSse } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport as FirstStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as FirstHttp } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const given = JSON.parse(process.argv[2]);
const me = { name: "visitor", version: "1.0.0" };
const requestInit = { headers: { Authorization: `Bearer ${given.token}` } };
const [command, ...args] = given.command;

const libraries = [
  {
    name: "sdk 1",
    make: () => new FirstClient(me),
    eras: ["legacy"],
    transports: { http: FirstHttp, sse: FirstSse, stdio: FirstStdio },
  },
  {
    name: "client 2",
    make: (mode) => new second.Client(me, { versionNegotiation: { mode } }),
    eras: ["legacy", "auto"],
    transports: { http: second.StreamableHTTPClientTransport, sse: second.SSEClientTransport, stdio: SecondStdio },
  },
];

// Does what an agent does; gives what was negotiated.
async function visit(client, transport, content) {
  await client.connect(transport);
  try {
    const { tools } = await client.listTools();
    assert.ok(tools.some((tool) => tool.name === "store_memory"), "store_memory is listed");
    const stored = await client.callTool({ name: "store_memory", arguments: { content } });
    assert.ok(!stored.isError, JSON.stringify(stored));
    const found = await client.callTool({ name: "retrieve_context", arguments: { query: content } });
    assert.ok(JSON.stringify(found.structuredContent).includes(content), "what was stored is found");
    const guide = await client.readResource({ uri: "contextdna://guide" });
    assert.ok(guide.contents[0].text.includes("retrieve_context"), "the guide is read");
    await assert.rejects(client.readResource({ uri: "contextdna://projects/nowhere" }), /no such project/);
    return `${tools.length} tools, ${client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? "ok"}`;
  } finally {
    await client.close();
  }
}

let failed = 0;
for (const { name, make, eras, transports } of libraries) {
  for (const [kind, Transport] of Object.entries(transports)) {
    for (const era of eras) {
      const transport =
        kind === "stdio"
          ? new Transport({ command, args, stderr: "inherit" })
          : new Transport(new URL(given[kind]), { requestInit });
      const began = performance.now();
      const client = make(era);
      let said;
      try {
        said = await visit(client, transport, `The ${name} came by ${kind} as ${era}`);
      } catch (error) {
        failed += 1;
        said = `FAILED: ${error.stack}`;
      }
      console.log(`${name.padEnd(10)}${kind.padEnd(7)}${era.padEnd(8)}${said}, ${Math.round(performance.now() - began)} ms`);
    }
  }
}
process.exit(failed ? 1 : 0);
