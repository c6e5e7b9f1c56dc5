"""Calls an agent with PyPI's asyncserf and prints what came as JSON.

Usage: asyncserf_calls.py PORT [auth] [encrypted]

With `auth` the agent's key is `secret`.
"""

import json
import sys

import anyio
from asyncserf import serf_client


def plain(value):
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


# With any agent, asyncserf waits for a body that the answer to `tags` does not have, and takes none after an error, which
# `join` and the key commands have. So these are not called here in such a way.
async def main():
    port = int(sys.argv[1])
    key = "secret" if "auth" in sys.argv else ""
    encrypted = "encrypted" in sys.argv
    out = {}
    async with serf_client(host="127.0.0.1", port=port, rpc_auth=key) as client:
        out["members"] = plain((await client.members()).body)
        out["filtered"] = plain((await client.members(name="n1", status="alive")).body)
        if encrypted:
            out["list keys"] = plain((await client.list_keys()).body)
        out["stats"] = sorted(plain((await client.stats()).body)["serf"])
        out["force leave"] = plain((await client.force_leave("nobody")).head)

        records = []
        async with client.stream("user:deploy,query:load") as stream:
            for number in range(3):
                await client.event("deploy", b"payload %d" % number, coalesce=False)
            async for record in stream:
                records.append([record.name, plain(record.payload)])
                if len(records) == 3:
                    break
        out["records"] = records

        replies = []

        async def answer(stream, started):
            started.set()
            async for record in stream:
                await record.respond(b"42")
                return

        async with client.stream("query:load") as stream:
            async with anyio.create_task_group() as group:
                started = anyio.Event()
                group.start_soon(answer, stream, started)
                await started.wait()
                async with client.query("load", payload=b"x", request_ack=True, timeout=1) as query:
                    async for record in query:
                        replies.append([record.type, getattr(record, "payload", None) and plain(record.payload)])
        # The reference may repeat them, empty, at the deadline.
        out["query"] = sorted({str(reply) for reply in replies if reply != ["response", None] and reply != ["response", b""]})

        lines = []
        async with client.monitor("debug") as monitor:
            async for record in monitor:
                lines.append(record)
                if len(lines) == 2:
                    break
        out["monitor"] = len(lines)
    print(json.dumps(out, sort_keys=True))


anyio.run(main)
