#!/usr/bin/env python3
"""Records gossip of real Serf agents for the golden tests. See README.md next to this file.

Needs `serf` in PATH and nothing else. Usage: record.py [SCENARIO...] (all of them without arguments).
"""

import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PORTS = itertools.count(int(os.environ.get("GOLDEN_PORTS", "24000")))
KEYS = {16: "AAECAwQFBgcICQoLDA0ODw==", 32: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
DEADLINE_SECONDS = 60
PACKETS_MAX = 12


class Recording:
    """One file: a line for each packet, or for what one end of a stream said."""

    def __init__(self, name):
        self.path = HERE / f"{name}.hex"
        self.lines = []
        self.seen = {}
        self.lock = threading.Lock()

    def packet(self, data):
        with self.lock:
            key = signature(data)
            self.seen[key] = self.seen.get(key, 0) + 1
            # Answers to queries look alike and hold different things; what is compressed or encrypted cannot be told.
            limit = PACKETS_MAX if key in ((9, 9), (-1,), (8, 8, 5)) else 1
            if self.seen[key] <= limit:
                self.lines.append(f"packet {data.hex()}")

    def stream(self, data):
        with self.lock:
            if data:
                self.lines.append(f"stream {data.hex()}")

    def save(self):
        self.path.write_text("".join(line + "\n" for line in self.lines))
        print(f"{self.path.name}: {len(self.lines)} lines")


def messages(packet):
    """The messages of a packet without compression and encryption."""
    if len(packet) > 5 and packet[0] == 12:
        assert zlib.crc32(packet[5:]) == struct.unpack(">I", packet[1:5])[0]
        packet = packet[5:]
    if packet[:1] != b"\x07":
        return [packet]
    count = packet[1]
    lengths = struct.unpack(f">{count}H", packet[2 : 2 + 2 * count])
    at = 2 + 2 * count
    parts = []
    for length in lengths:
        parts += messages(packet[at : at + length])
        at += length
    return parts


def signature(packet):
    """What kinds of messages a packet holds; for opaque packets, their first byte."""
    if packet[:1] in (b"\x01", b"\x00") and packet[1:2] and not 0x80 <= packet[1] <= 0x8F:
        return (-1,)
    kinds = [packet[0]]
    for message in messages(packet):
        kinds.append(message[0])
        if message[0] == 8:
            kinds.append(message[1])
    return tuple(kinds)


def fetch(connection):
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


class Proxy:
    """Stands in front of an agent: peers know the agent by the proxy's port."""

    def __init__(self, recording, agent_port):
        self.port, self.recording, self.agent = next(PORTS), recording, ("127.0.0.1", agent_port)
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        threading.Thread(target=self.packets, daemon=True).start()
        threading.Thread(target=self.streams, daemon=True).start()

    def packets(self):
        while True:
            try:
                data, peer = self.udp.recvfrom(65536)
            except OSError:
                continue
            self.recording.packet(data)
            self.udp.sendto(data, self.agent)

    def streams(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.stream, args=[client], daemon=True).start()

    def stream(self, client):
        try:
            server = socket.create_connection(self.agent)
        except OSError:
            client.close()
            return
        said = {client: b"", server: b""}
        other = {client: server, server: client}
        while other:
            for end in select.select(list(other), [], [])[0]:
                data = fetch(end)
                said[end] += data
                if data:
                    other[end].sendall(data)
                    continue
                # Serf closes when it is done; there are no half-closed streams.
                for text in said.values():
                    self.recording.stream(text)
                client.close(), server.close()
                return


class Agent:
    def __init__(self, name, *arguments, advertise=None, port=None):
        self.name, self.port, self.rpc = name, port or next(PORTS), next(PORTS)
        command = ["serf", "agent", f"-node={name}", f"-bind=127.0.0.1:{self.port}", "-profile=local"]
        command += [f"-rpc-addr=127.0.0.1:{self.rpc}", "-log-level=debug", *arguments]
        if advertise:
            command.append(f"-advertise=127.0.0.1:{advertise}")
        self.log = tempfile.NamedTemporaryFile("w+", suffix=f"-{name}.log")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        wait(lambda: self.call("info").returncode == 0, f"agent {name}")

    def call(self, *arguments):
        command = ["serf", arguments[0], f"-rpc-addr=127.0.0.1:{self.rpc}", *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True)

    def members(self, status):
        lines = self.call("members", f"-status={status}").stdout.splitlines()
        return [word for line in lines for word in line.split()[:1]]

    def kill(self):
        self.process.kill()
        self.process.wait()


def wait(condition, what):
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def pair(name, *arguments):
    """Two agents that talk through a recording proxy: join, event, query, tags, a failure, a leave."""
    recording = Recording(name)
    back = next(PORTS)
    proxy = Proxy(recording, back)
    front = Agent("front", "-tag", "role=web", "-tag", "dc=east", *arguments)
    agent = Agent("back", "-event-handler", "query:uptime=echo up", *arguments, advertise=proxy.port, port=back)
    third = Agent("third", *arguments)
    agents = [front, agent, third]
    try:
        assert front.call("join", f"127.0.0.1:{proxy.port}").returncode == 0
        third.call("join", f"127.0.0.1:{front.port}")
        wait(lambda: len(agent.members("alive")) == 3, "three members")
        front.call("event", "deploy", "payload of the event")
        front.call("event", "-coalesce=false", "silent")
        print(front.call("query", "-tag", "role=.*", "-relay-factor=2", "uptime", "since?").stdout)
        front.call("query", "-no-ack", "-node", "back", "uptime")
        print(front.call("keys", "-list").stdout)
        front.call("tags", "-set", "note=" + "long " * 60)
        front.call("event", "big", "all work and no play " * 20)
        time.sleep(3)
        third.kill()
        wait(lambda: "third" in front.members("failed") and "third" in agent.members("failed"), "failure")
        front.call("force-leave", "third")
        time.sleep(1)
        front.call("join", f"127.0.0.1:{proxy.port}")
        front.call("leave")
        wait(lambda: "front" in agent.members("left"), "leave")
    finally:
        for each in agents:
            each.kill()
    recording.save()


def pack(value):
    """MsgPack as the agents write it, so that what they pass on is in the same form as what they say."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if value < 0x80:
            return bytes([value])
        form, marker = next((form, marker) for form, marker in zip("BHIQ", range(0xCC, 0xD0)) if value < 256 ** struct.calcsize(form))
        return bytes([marker]) + struct.pack(f">{form}", value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        head = bytes([0xA0 + len(value)]) if len(value) < 32 else b"\xda" + struct.pack(">H", len(value))
        return head + value
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(pack, value))
    return bytes([0x80 + len(value)]) + b"".join(pack(key) + pack(value[key]) for key in sorted(value))


class Peer:
    """A member that says only what a scenario tells it to."""

    def __init__(self, recording, agent):
        self.port, self.recording, self.agent = next(PORTS), recording, ("127.0.0.1", agent.port)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.answering = True
        self.kinds = set()
        threading.Thread(target=self.packets, daemon=True).start()
        threading.Thread(target=self.streams, daemon=True).start()

    def packets(self):
        while True:
            data, _ = self.udp.recvfrom(65536)
            self.recording.packet(data)
            for message in messages(data):
                self.kinds.add(tuple(message[:2]) if message[0] == 8 else message[0])
                if message[0] == 0 and self.answering:
                    at = message.index(b"\xa5SeqNo") + 6
                    width = {0xCC: 2, 0xCD: 3, 0xCE: 5}.get(message[at], 1)
                    ack = b"\x02\x82" + pack("Payload") + b"\xc0" + pack("SeqNo") + message[at : at + width]
                    self.udp.sendto(ack, self.agent)

    def streams(self):
        while True:
            client, _ = self.listener.accept()
            data = fetch(client)
            self.kinds.add(("stream", data[:1]))
            self.recording.stream(data)
            client.close()

    def send(self, data):
        self.udp.sendto(data, self.agent)

    def node(self, name, state=0, incarnation=1):
        return pack({"Name": name, "Addr": socket.inet_aton("127.0.0.1"), "Port": self.port, "Meta": None,
                     "Incarnation": incarnation, "State": state, "Vsn": bytes([1, 5, 2, 2, 5, 5])})

    def exchange(self, request):
        """Says something on a stream of its own and records what comes back."""
        with socket.create_connection(self.agent) as stream:
            stream.sendall(request)
            answer = b""
            stream.settimeout(10)
            while data := fetch(stream):
                answer += data
            self.recording.stream(answer)

    def wait(self, kind):
        wait(lambda: kind in self.kinds, f"message {kind}")

    def query(self, name, **fields):
        head = {"LTime": 100, "ID": 7, "Addr": socket.inet_aton("127.0.0.1"), "Port": self.port, "SourceNode": "peer",
                "Filters": None, "Flags": 1, "RelayFactor": 0, "Timeout": 10**10, "Name": name, "Payload": None}
        self.send(b"\x08\x04" + pack(head | fields))


def peer(name="peer"):
    """What only a made-up peer can provoke: nacks, errors, pings by stream, internal queries and relayed answers."""
    recording = Recording(name)
    agent = Agent("front", "-disable-compression", "-event-handler", "query:uptime=echo up")
    peer = Peer(recording, agent)
    try:
        state = b"\x06" + pack({"Nodes": 2, "UserStateLen": 0, "Join": False})
        peer.exchange(state + peer.node("peer") + peer.node("old", state=3))
        peer.wait(0)
        peer.send(b"\x00" + pack({"SeqNo": 70000, "Node": "front"}))
        peer.wait(2)
        peer.send(b"\x01" + pack({"SeqNo": 9, "Target": socket.inet_aton("127.0.0.1"), "Port": 9, "Node": "nobody", "Nack": True}))
        peer.wait(11)
        peer.exchange(b"\x00" + pack({"SeqNo": 300, "Node": "front"}))
        peer.exchange(b"\x0a\x00\x00\x00\x01\x00")
        peer.query("uptime", ID=1, LTime=100)
        peer.wait((8, 5))
        peer.query("uptime", ID=2, LTime=101, RelayFactor=1)
        peer.wait((8, 9))
        for at, (query, payload) in enumerate({"_serf_conflict": b"peer", "_serf_list-keys": b"\x07" + pack({"Key": b""})}.items()):
            peer.query(query, ID=3 + at, LTime=102 + at, Payload=payload, Flags=0)
            time.sleep(1)
        agent.call("event", "deploy", "payload of the event")
        peer.wait((8, 3))
        # Now it looks dead: pings by stream, suspicion, death. Suspects are told.
        peer.answering = False
        peer.wait(("stream", b"\x00"))
        peer.wait(3)
        peer.wait(5)
    finally:
        agent.kill()
    recording.save()


def indirect(name="indirect"):
    """Being asked to ping for another."""
    recording = Recording(name)
    agent = Agent("front", "-disable-compression")
    peer = Peer(recording, agent)
    try:
        state = b"\x06" + pack({"Nodes": 2, "UserStateLen": 0, "Join": False})
        other = peer.node("silent").replace(pack(peer.port), pack(next(PORTS)))
        peer.exchange(state + peer.node("peer") + other)
        peer.wait(1)
        agent.call("query", "-timeout=1s", "-tag", "a=b|c", "-node", "peer", "-node", "front", "ask", "payload")
        agent.call("leave")
        peer.wait((8, 0))
    finally:
        agent.kill()
    recording.save()


SCENARIOS = {
    "plain": lambda: pair("plain", "-disable-compression"),
    "compressed": lambda: pair("compressed"),
    "encrypted": lambda: pair("encrypted", f"-encrypt={KEYS[32]}"),
    "encrypted-uncompressed": lambda: pair("encrypted-uncompressed", "-disable-compression", f"-encrypt={KEYS[16]}"),
    "protocol-2": lambda: pair("protocol-2", "-disable-compression", "-protocol=2", "-role=db"),
    "peer": peer,
    "indirect": indirect,
}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for scenario in sys.argv[1:] or SCENARIOS:
        SCENARIOS[scenario]()
