"""Calls an agent with PyPI's serfclient and prints what came as JSON.

Usage: serfclient_calls.py PORT
"""

import json
import sys

from serfclient.client import SerfClient


def plain(value):
    """What JSON can hold: bytes become text."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def answer(result):
    return {"head": plain(result.head), "body": plain(result.body)}


def main():
    port = int(sys.argv[1])
    out = {}

    def client():
        return SerfClient(host="127.0.0.1", port=port, timeout=10)

    one = client()
    out["members"] = answer(one.members())
    out["members filtered"] = answer(one.members(name="n1", tags={"role": "web"}))
    out["members none"] = answer(one.members(name="zz"))
    out["event"] = answer(one.event("deploy", "payload", coalesce=False))
    out["force-leave"] = answer(one.force_leave("nobody"))
    out["join"] = answer(one.join(["127.0.0.1:1"]))
    out["join"]["head"][b"Error".decode()] = "Failed to join 127.0.0.1" in str(out["join"]["head"])
    stats = answer(one.stats())
    out["stats"] = sorted(stats["body"]["serf"])

    # A stream, seen by one connection while another sends.
    listener = client()
    stream = listener.stream("user:deploy")
    out["stream"] = plain(stream.head)
    two = client()
    for number in range(3):
        two.event("deploy", "payload %d" % number, coalesce=False)
    two.event("other", "no", coalesce=False)
    records = []
    for record in stream.body:
        records.append({key: value for key, value in plain(record.body).items() if key != "LTime"})
        if len(records) == 3:
            break
    out["records"] = records
    print(json.dumps(out, sort_keys=True))


main()
