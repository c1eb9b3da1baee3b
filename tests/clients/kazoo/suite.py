"""kazoo's own test suite against a server: every test that passes on ZooKeeper must pass.

    suite.py                     all tests of the list, against Ringkeeper
    suite.py --record            all tests there are, against ZooKeeper, to write the list anew
    suite.py TEST...             these tests only, named as in the list

Run it with the Python of tests/.env; RINGKEEPER names the server's program. The sources of the
suite come from kazoo's sdist, which ./test unpacks into tests/.env/kazoo. kazoo's harness starts
the server as `java ... QuorumPeerMain zoo.cfg`; for Ringkeeper the `java` beside this file stands
first in PATH.

The list, `passed-on-zookeeper.txt`, holds each test that passed on ZooKeeper 3.8.0, standalone. A
test that fails is tried again, alone: some of kazoo's tests expect an answer within a fixed time.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SUITE = HERE.parent.parent / ".env" / "kazoo"
LIST = HERE / "passed-on-zookeeper.txt"
# Why tests of the list are not run against Ringkeeper: by a part of their name.
NOT_YET = {"TestSSLClient": "TLS"}
WORKERS = 4
# Seconds that one test may take.
PATIENCE = 90


# The plugin that runs inside pytest: a set of ports for each worker, and a line for each result.


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    base = int(os.environ["SUITE_PORTS"])
    os.environ["ZOOKEEPER_PORT_OFFSET"] = str(base + 20 * int(worker))


def pytest_runtest_logreport(report):
    # The workers' reports pass here once more, in the process that started them.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    with open(os.environ["SUITE_RESULTS"], "a") as results:
        print(report.nodeid, report.outcome, file=results)


# The runner.


def run(tests, workers, against_zookeeper):
    """Runs `tests` and returns {name: outcome}."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        environment.pop("CI", None)  # kazoo's tests wait longer where it is set
        environment.update(
            ZOOKEEPER_VERSION="3.8.0",
            ZOOKEEPER_CLUSTER_SIZE="1",
            ZOOKEEPER_CLASSPATH="/usr/share/java/*",
            # Between those of our other tests and those that the kernel gives to clients; apart
            # from those of a run beside it.
            SUITE_PORTS=str(30_000 + os.getpid() % 27 * 100),
            SUITE_RESULTS=str(pathlib.Path(folder, "results")),
            PYTHONPATH=os.pathsep.join([str(SUITE), str(HERE)]),
            PYTHONDONTWRITEBYTECODE="1",
            TMPDIR=folder,
        )
        if against_zookeeper:
            environment["JAVA_TOOL_OPTIONS"] = "-Xmx256m"
        else:
            environment["PATH"] = f"{HERE}{os.pathsep}{environment['PATH']}"
        command = [sys.executable, "-m", "pytest", "-p", "suite", "-qq", "-n", str(workers)]
        command += ["--dist", "loadscope", f"--timeout={PATIENCE}", "-p", "no:cacheprovider"]
        command += ["--tb=short", "--no-header", "--show-capture=no", "-W", "ignore", *tests]
        subprocess.run(command, cwd=SUITE, env=environment, check=False)
        return outcomes(pathlib.Path(folder, "results"))


def outcomes(results):
    """A test passed if its set-up, call and tear-down all did."""
    found = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        name, outcome = line.rsplit(maxsplit=1)
        found[name] = found.get(name, "passed") if outcome == "passed" else outcome
    return found


def record():
    found = run(["kazoo/tests"], 2, True)
    for name in [name for name, outcome in found.items() if outcome == "failed"]:
        found.update(run([name], 1, True))
    with open(LIST, "w") as out:
        for name, outcome in sorted(found.items()):
            if outcome == "passed":
                print(name, file=out)
            else:
                print(f"{outcome} on ZooKeeper: {name}")


def listed():
    """The tests of the list that Ringkeeper is to pass today."""
    tests = LIST.read_text().splitlines()
    return [name for name in tests if not any(part in name for part in NOT_YET)]


def compare(tests):
    found = run(tests, WORKERS, False)
    for name in [name for name in tests if found.get(name) != "passed"]:
        print("once more, alone:", name, flush=True)
        found.update(run([name], 1, False))
    missing = [name for name in tests if found.get(name) != "passed"]
    for name in missing:
        print(f"passes on ZooKeeper, {found.get(name, 'not run')} on Ringkeeper: {name}")
    print(f"{len(tests) - len(missing)} of {len(tests)} tests passed")
    return not missing


def main(arguments):
    if arguments != ["--record"] and "RINGKEEPER" not in os.environ:
        sys.exit("RINGKEEPER must name the program")
    if not SUITE.is_dir():
        sys.exit(f"{SUITE} is missing: ./test installs what the tests need")
    if arguments == ["--record"]:
        record()
        return
    sys.exit(0 if compare(arguments or listed()) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
