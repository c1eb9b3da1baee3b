"""Runs a program under a seccomp profile as container engines take it, through libseccomp.

    confine.py PROFILE.json PROGRAM [ARGUMENT...]
"""

import ctypes
import json
import os
import sys

ACT_ALLOW = 0x7FFF0000
ACT_ERRNO = 0x00050000

profile = json.load(open(sys.argv[1], encoding="utf-8"))
assert profile["defaultAction"] == "SCMP_ACT_ERRNO", "everything else is forbidden"
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ACT_ERRNO | profile["defaultErrnoRet"]))
assert context.value, "seccomp_init"
for rule in profile["syscalls"]:
    assert rule["action"] == "SCMP_ACT_ALLOW"
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Not every processor has every call, and an older library does not know the newest.
        if number >= 0:
            done = library.seccomp_rule_add(context, ACT_ALLOW, number, 0)
            assert done == 0, f"{name}: {os.strerror(-done)}"
done = library.seccomp_load(context)
assert done == 0, f"seccomp_load: {os.strerror(-done)}"
os.execv(sys.argv[2], sys.argv[2:])
