"""What programs do with a coordination server, through kazoo.

    scenarios.py HOST:PORT NAME

runs one scenario and exits 0 when everything was as it must be. A scenario that needs the server
restarted prints `restart kill` or `restart term` and reads a line when it serves again.
"""

import logging
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    LockTimeout,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoChildrenForEphemeralsError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry
from kazoo.security import ACL, Id, Permissions, make_digest_acl

HOSTS = sys.argv[1]

# kazoo reports every refused connection while the server is down.
logging.disable(logging.WARNING)
PATIENCE = 20


def client(timeout=6.0, **options):
    retry = KazooRetry(max_tries=-1, delay=0.05, max_delay=0.2)
    zk = KazooClient(hosts=HOSTS, timeout=timeout, connection_retry=retry, command_retry=retry, **options)
    zk.start(timeout=PATIENCE)
    return zk


def restart(how):
    print("restart", how, flush=True)
    answer = sys.stdin.readline().strip()
    assert answer == "restarted", answer


def eventually(what, true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def refused(error, call, *arguments, **options):
    try:
        found = call(*arguments, **options)
    except error:
        return
    raise AssertionError(f"{call.__name__}{arguments} gave {found!r} instead of {error.__name__}")


def nodes():
    """Create, read, change and delete: persistent, ephemeral and sequential nodes."""
    zk = client()
    assert zk.create("/nodes", b"root") == "/nodes"
    refused(NodeExistsError, zk.create, "/nodes")
    refused(NoNodeError, zk.create, "/absent/child")
    assert zk.get("/nodes")[0] == b"root"
    stat = zk.set("/nodes", b"changed", version=0)
    assert (stat.version, stat.dataLength) == (1, 7)
    refused(BadVersionError, zk.set, "/nodes", b"late", version=0)
    data, stat = zk.get("/nodes")
    assert data == b"changed" and stat.czxid < stat.mzxid and stat.ctime <= stat.mtime
    assert abs(stat.mtime / 1000 - time.time()) < 60

    made = [zk.create("/nodes/task-", sequence=True) for _ in range(3)]
    assert made == [f"/nodes/task-{number:010d}" for number in range(3)], made
    zk.delete(made[1])
    assert zk.create("/nodes/task-", sequence=True) == "/nodes/task-0000000003"
    assert zk.create("/nodes/other", include_data=True)[1].version == 0
    assert zk.create("/nodes/task-", sequence=True) == "/nodes/task-0000000005"
    children, stat = zk.get_children("/nodes", include_data=True)
    assert len(children) == 5 == stat.numChildren
    assert stat.cversion == 7, stat  # six creations and one deletion
    refused(NotEmptyError, zk.delete, "/nodes")

    other = client()
    path = other.create("/nodes/e-", b"x", ephemeral=True, sequence=True)
    assert zk.exists(path).ephemeralOwner == other.client_id[0]
    refused(NoChildrenForEphemeralsError, zk.create, path + "/child")
    other.stop()
    eventually("the ephemeral goes with its session", lambda: zk.exists(path) is None)
    other.close()

    big = bytes(range(256)) * 4000
    zk.create("/nodes/big", big)
    assert zk.get("/nodes/big")[0] == big
    zk.create("/nodes/gr\u00fc\u00dfe \u4e16\u754c", "\u00e4".encode())
    assert zk.get("/nodes/gr\u00fc\u00dfe \u4e16\u754c")[0] == "\u00e4".encode()
    zk.create("/nodes/empty", b"")
    assert zk.get("/nodes/empty")[0] == b""
    assert zk.sync("/nodes") == "/nodes"
    zk.delete("/nodes", recursive=True)
    assert zk.exists("/nodes") is None
    zk.stop()


def locks():
    """Lock, its waiting, its loss with a session; read and write locks; a semaphore."""
    clients = [client() for _ in range(3)]
    counter = {"inside": 0, "most": 0, "times": 0}

    def work(zk):
        for _ in range(8):
            with zk.Lock("/locks/one", "worker"):
                counter["inside"] += 1
                counter["most"] = max(counter["most"], counter["inside"])
                counter["times"] += 1
                time.sleep(0.002)
                counter["inside"] -= 1

    threads = [threading.Thread(target=work, args=(zk,)) for zk in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert counter == {"inside": 0, "most": 1, "times": 24}, counter

    first = clients[0].Lock("/locks/two", "first")
    second = clients[1].Lock("/locks/two", "second")
    assert first.acquire()
    refused(LockTimeout, second.acquire, timeout=0.3)
    assert second.contenders() == ["first"]
    got = threading.Event()
    waiting = threading.Thread(target=lambda: second.acquire() and got.set())
    waiting.start()
    eventually("the second waits", lambda: len(first.contenders()) == 2)
    clients[0].stop()  # the session ends, and the lock with it
    assert got.wait(PATIENCE)
    waiting.join()
    second.release()

    readers = [zk.ReadLock("/locks/three") for zk in clients[1:]]
    assert all(reader.acquire(timeout=PATIENCE) for reader in readers)
    writer = clients[1].WriteLock("/locks/three")
    refused(LockTimeout, writer.acquire, timeout=0.3)
    for reader in readers:
        reader.release()
    assert writer.acquire(timeout=PATIENCE)
    writer.release()

    semaphore = clients[1].Semaphore("/locks/four", max_leases=1)
    other = clients[2].Semaphore("/locks/four", max_leases=1)
    assert semaphore.acquire()
    assert not other.acquire(blocking=False)
    semaphore.release()
    assert other.acquire(timeout=PATIENCE)
    other.release()
    for zk in clients[1:]:
        zk.stop()


def election():
    """One leader at a time, the next when it goes, in the order of arrival."""
    clients = [client() for _ in range(3)]
    led, leave = [], [threading.Event() for _ in clients]
    threads = []
    for number, zk in enumerate(clients):
        election = zk.Election("/election", f"candidate-{number}")

        def lead(number=number):
            led.append(number)
            leave[number].wait(PATIENCE)

        thread = threading.Thread(target=election.run, args=(lead,))
        thread.start()
        threads.append(thread)
        eventually("it stands", lambda: len(election.contenders()) == number + 1)
    assert clients[2].Election("/election").contenders() == [f"candidate-{n}" for n in range(3)]
    for number in range(3):
        eventually(f"{number} leads", lambda: led == list(range(number + 1)))
        leave[number].set()
        threads[number].join(PATIENCE)
    for zk in clients:
        zk.stop()


def watches():
    """One-shot data, exists and child watches with their events; and that each fires once."""
    zk, other = client(), client()
    zk.ensure_path("/watches")
    events = []

    def watch(event):
        events.append((event.type, event.path))

    def expect(*expected):
        eventually(f"{expected} (so far {events})", lambda: len(events) >= len(expected))
        other.sync("/")
        zk.sync("/")
        assert events == list(expected), events
        events.clear()

    assert zk.exists("/watches/a", watch=watch) is None
    other.create("/watches/a", b"1")
    expect((EventType.CREATED, "/watches/a"))
    zk.get("/watches/a", watch=watch)
    other.set("/watches/a", b"2")
    expect((EventType.CHANGED, "/watches/a"))
    other.set("/watches/a", b"3")
    expect()
    zk.exists("/watches/a", watch=watch)
    other.set("/watches/a", b"4")
    expect((EventType.CHANGED, "/watches/a"))
    zk.get_children("/watches", watch=watch)
    other.set("/watches/a", b"5")
    expect()
    other.create("/watches/b")
    expect((EventType.CHILD, "/watches"))
    zk.get_children("/watches", watch=watch)
    other.delete("/watches/b")
    expect((EventType.CHILD, "/watches"))
    zk.get("/watches/a", watch=watch)
    other.delete("/watches/a")
    expect((EventType.DELETED, "/watches/a"))
    zk.create("/watches/c")
    zk.get_children("/watches/c", watch=watch)
    other.delete("/watches/c")
    expect((EventType.DELETED, "/watches/c"))
    refused(NoNodeError, zk.get, "/watches/d", watch=watch)
    other.create("/watches/d")
    expect()

    # kazoo's recipes: each state is seen, in order, though changes come fast.
    seen = []
    zk.DataWatch("/watches/d")(lambda data, stat: seen.append(data))
    for number in range(50):
        other.set("/watches/d", str(number).encode())
    eventually("the last state", lambda: seen and seen[-1] == b"49")
    numbers = [int(data) for data in seen if data]
    assert numbers == sorted(set(numbers)), numbers
    groups = []
    zk.ChildrenWatch("/watches")(lambda children: groups.append(sorted(children)))
    for name in "xyz":
        other.create(f"/watches/{name}")
    eventually("all children", lambda: groups and groups[-1] == ["d", "x", "y", "z"])
    zk.stop()
    other.stop()


def transactions():
    """All of a multi or nothing of it, and what each part answers."""
    zk = client()
    zk.create("/tx", b"0")
    work = zk.transaction()
    work.create("/tx/a", b"a")
    work.create("/tx/a/b", b"b")
    work.set_data("/tx", b"1", version=0)
    work.check("/tx", version=1)
    work.create("/tx/s-", sequence=True)
    work.delete("/tx/a/b")
    results = work.commit()
    assert results[0] == "/tx/a" and results[1] == "/tx/a/b", results
    assert results[2].version == 1 and results[3] is True and results[5] is True, results
    assert results[4] == "/tx/s-0000000001", results
    zxids = {zk.exists(path).czxid for path in ("/tx/a", "/tx/s-0000000001")}
    assert zxids == {zk.exists("/tx").mzxid}, "one multi is one transaction"

    work = zk.transaction()
    work.set_data("/tx", b"2")
    work.create("/tx/c")
    work.check("/tx/a", version=9)
    work.delete("/tx/a")
    kinds = [type(result) for result in work.commit()]
    assert kinds == [RolledBackError, RolledBackError, BadVersionError, RuntimeInconsistency], kinds
    assert zk.get("/tx")[0] == b"1"
    assert zk.exists("/tx/c") is None and zk.exists("/tx/a") is not None
    # A failed multi counts no child: the next number is the one that it would have taken.
    assert zk.create("/tx/s-", sequence=True) == "/tx/s-0000000002"

    events = []
    zk.get("/tx", watch=lambda event: events.append(event.type))
    zk.get_children("/tx", watch=lambda event: events.append(event.type))
    with zk.transaction() as work:
        work.create("/tx/d")
        work.set_data("/tx", b"3")
    eventually("both watches", lambda: len(events) == 2)
    assert sorted(events) == sorted([EventType.CHILD, EventType.CHANGED]), events
    zk.stop()


def acls():
    """Digest and world entries: who may read, write, create, delete and administrate."""
    anyone = client()
    owner = client(auth_data=[("digest", "owner:secret")])
    guest = client(auth_data=[("digest", "guest:guest")])
    everything = make_digest_acl("owner", "secret", all=True)
    reading = make_digest_acl("guest", "guest", read=True)
    owner.create("/acl", b"private", acl=[everything, reading])
    assert owner.get("/acl")[0] == guest.get("/acl")[0] == b"private"
    refused(NoAuthError, anyone.get, "/acl")
    refused(NoAuthError, anyone.get_children, "/acl")
    refused(NoAuthError, guest.set, "/acl", b"x")
    refused(NoAuthError, guest.create, "/acl/child")
    refused(NoAuthError, anyone.set_acls, "/acl", [everything])
    owner.create("/acl/open", b"1")
    assert anyone.get("/acl/open")[0] == b"1"  # an ACL is the node's own, not its parent's
    refused(NoAuthError, anyone.delete, "/acl/open")  # deleting is the parent's to allow
    found, stat = owner.get_acls("/acl")
    assert found == [everything, reading] and stat.aversion == 0, found
    hidden, _ = guest.get_acls("/acl")
    assert [acl.id.id for acl in hidden] == ["owner:x", "guest:x"], hidden
    refused(BadVersionError, owner.set_acls, "/acl", [everything], version=5)
    assert owner.set_acls("/acl", [everything], version=0).aversion == 1
    refused(NoAuthError, guest.get, "/acl")
    refused(InvalidACLError, anyone.create, "/bad", acl=[ACL(31, Id("digest", "nocolon"))])
    refused(InvalidACLError, anyone.create, "/bad", acl=[ACL(31, Id("auth", ""))])
    owner.create("/mine", b"", acl=[ACL(Permissions.ALL, Id("auth", ""))])
    assert owner.get_acls("/mine")[0] == [everything]
    refused(NoAuthError, guest.get, "/mine")
    guest.add_auth("digest", "owner:secret")
    assert guest.get("/mine")[0] == b""
    owner.create("/here", b"", acl=[ACL(Permissions.ALL, Id("ip", "127.0.0.0/8"))])
    assert anyone.get("/here")[0] == b""
    # A multi checks each part.
    work = anyone.transaction()
    work.create("/allowed")
    work.set_data("/acl", b"x")
    assert [type(result) for result in work.commit()] == [RolledBackError, NoAuthError]
    restart("kill")
    assert owner.get_acls("/mine")[0] == [everything]
    refused(NoAuthError, anyone.get, "/mine")
    for zk in (anyone, owner, guest):
        zk.stop()


def reconnect():
    """The server ends and starts again; session, ephemerals and locks live on."""
    zk, other = client(timeout=8), client(timeout=8)
    states = []
    zk.add_listener(states.append)
    zk.create("/reconnect", b"before")
    zk.create("/reconnect/e", b"", ephemeral=True)
    lock = zk.Lock("/reconnect/lock", "holder")
    assert lock.acquire()
    session = zk.client_id
    # kazoo drops one-shot watches when a connection ends; its DataWatch sets them anew.
    seen = []
    zk.DataWatch("/reconnect")(lambda data, stat: seen.append(data))
    for number, how in enumerate(["kill", "term", "kill"]):
        restart(how)
        eventually("both are back", lambda: zk.connected and other.connected)
        assert zk.client_id == session, "it came back as another session"
        assert zk.exists("/reconnect/e").ephemeralOwner == session[0]
        assert lock.is_acquired and other.Lock("/reconnect/lock").contenders() == ["holder"]
        data = str(number).encode()
        other.set("/reconnect", data)
        eventually("the watch fires", lambda: seen[-1] == data)
    assert KazooState.LOST not in states and states.count(KazooState.SUSPENDED) == 3, states
    assert other.get("/reconnect")[0] == b"2"
    zk.stop()
    eventually("its ephemerals are gone", lambda: other.exists("/reconnect/e") is None)
    assert other.Lock("/reconnect/lock").contenders() == []
    other.stop()


SCENARIOS = [nodes, locks, election, watches, transactions, acls, reconnect]

if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[2]]()
