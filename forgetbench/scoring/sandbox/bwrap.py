"""The command line of bubblewrap, and the system calls that are denied inside."""

from __future__ import annotations

import importlib.util
import os
import platform
import struct
import sys
from pathlib import Path

INSIDE = "/opt/forgetbench"
"""Where the server's code lies in the sandbox."""
TMP = "/tmp"

_NO_PERMISSION, _NO_SUCH_CALL = 1, 38  # EPERM, ENOSYS

_DENIED: dict[str, tuple[int, int, int]] = {
    # name: (number on x86_64, number on aarch64, errno). ENOSYS where libraries have another way.
    "memfd_create": (319, 279, _NO_SUCH_CALL),  # memory that no limit counts
    "memfd_secret": (447, 447, _NO_SUCH_CALL),
    "shmget": (29, 194, _NO_PERMISSION),  # memory that outlives a process
    "shmat": (30, 196, _NO_PERMISSION),
    "semget": (64, 190, _NO_PERMISSION),
    "msgget": (68, 186, _NO_PERMISSION),
    "mq_open": (240, 180, _NO_PERMISSION),
    "add_key": (248, 217, _NO_PERMISSION),
    "request_key": (249, 218, _NO_PERMISSION),
    "keyctl": (250, 219, _NO_PERMISSION),
    "ptrace": (101, 117, _NO_PERMISSION),  # another process's memory
    "process_vm_readv": (310, 270, _NO_PERMISSION),
    "process_vm_writev": (311, 271, _NO_PERMISSION),
    "pidfd_getfd": (438, 438, _NO_PERMISSION),
    "kcmp": (312, 272, _NO_PERMISSION),
    "unshare": (272, 97, _NO_PERMISSION),  # namespaces of its own, in which it would be root
    "setns": (308, 268, _NO_PERMISSION),
    "clone3": (435, 435, _NO_SUCH_CALL),
    "mount": (165, 40, _NO_PERMISSION),
    "umount2": (166, 39, _NO_PERMISSION),
    "pivot_root": (155, 41, _NO_PERMISSION),
    "open_tree": (428, 428, _NO_PERMISSION),
    "move_mount": (429, 429, _NO_PERMISSION),
    "fsopen": (430, 430, _NO_PERMISSION),
    "mount_setattr": (442, 442, _NO_PERMISSION),
    "bpf": (321, 280, _NO_PERMISSION),  # large parts of the kernel that no test needs
    "perf_event_open": (298, 241, _NO_PERMISSION),
    "userfaultfd": (323, 282, _NO_PERMISSION),
    "io_uring_setup": (425, 425, _NO_PERMISSION),
    "open_by_handle_at": (304, 265, _NO_PERMISSION),
}
_CLONE, _SOCKET = (56, 220), (41, 198)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> (column above, AUDIT_ARCH of linux/audit.h). Filters are per architecture."""
_NEW_USER, _AF_UNIX, _X32 = 0x10000000, 1, 0x40000000


def seccomp_filter(machine: str = "") -> bytes | None:
    """A classic BPF program (linux/seccomp.h) for `bwrap --seccomp`; None on an architecture not listed."""
    known = _ARCHITECTURES.get(machine or platform.machine())
    if known is None or sys.byteorder != "little":
        return None
    column, arch = known
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    kill, allow = 0x80000000, 0x7FFF0000

    def error(number: int) -> int:
        return 0x00050000 | number

    steps = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 1, 0, arch),
        (give, 0, 0, kill),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, 0, 1, _X32),
        (give, 0, 0, error(_NO_SUCH_CALL)),
    ]
    for row in _DENIED.values():
        steps += [(equal, 0, 1, row[column]), (give, 0, 0, error(row[2]))]
    # Arguments: socket(domain) other than AF_UNIX (AF_VSOCK knows no network namespace), clone(NEWUSER).
    steps += [(equal, 0, 4, _SOCKET[column]), (load, 0, 0, 16), (equal, 1, 0, _AF_UNIX)]
    steps += [(give, 0, 0, error(_NO_PERMISSION)), (give, 0, 0, allow)]
    steps += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, 16), (any_bit, 0, 1, _NEW_USER)]
    steps += [(give, 0, 0, error(_NO_PERMISSION)), (give, 0, 0, allow)]
    steps.append((give, 0, 0, allow))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def libraries() -> list[Path]:
    """Folders of packages that programs and tests may import beside the standard library: numpy."""
    spec = importlib.util.find_spec("numpy")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(next(iter(spec.submodule_search_locations)))
    return [p for p in (folder, folder.parent / "numpy.libs") if p.is_dir()]


def python_command(config: str, path: str, library: str) -> list[str]:
    """Start the server: no site packages, no bytecode written, `path` and `library` searched for modules."""
    code = f"import sys; sys.path += [{path!r}, {library!r}]; from inside.server import main; main(sys.argv[1])"
    return [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", code, config]


ENVIRONMENT = {
    "HOME": TMP,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
"""The whole environment, of bwrap as well: what `--clearenv` clears can be read in /proc/1/environ."""


def _bind(source: str, target: str) -> list[str]:
    """Bind read-only. bwrap makes the folders above a target for its own user alone; the candidate is another."""
    parents = [p for p in reversed(Path(target).parents) if str(p) != "/"]
    opened = [arg for p in parents for arg in ("--perms", "0755", "--dir", str(p))]
    return [*opened, "--ro-bind", source, target]


def command(bwrap: str, config: str, *, root: bool, tmp_bytes: int, seccomp_fd: int | None) -> list[str]:
    """bwrap, the view of the file system, and the server as first process.

    root: no user namespace is made (only one user would be mapped into it); the server keeps the few
    capabilities that it needs to be rid of root for each program and to end and clean up what that left.
    """
    args = [bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if root:
        args += ["--cap-drop", "ALL"]
        for name in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_OVERRIDE"):
            args += ["--cap-add", name]
    else:
        args += ["--unshare-user", "--cap-drop", "ALL"]
    args += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox"]
    args += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/lib", "/lib64", "/lib32", "/bin"):
        args += ["--ro-bind-try", folder, folder]
    args += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    python = os.path.realpath(sys.executable)
    prefix = os.path.realpath(sys.base_prefix)
    if not prefix.startswith("/usr/") and prefix != "/usr":
        args += _bind(prefix, prefix)
    if not python.startswith((prefix + "/", "/usr/")):
        args += _bind(python, python)
    args += _bind(str(Path(__file__).parent / "inside"), f"{INSIDE}/code/inside")
    for library in libraries():
        args += _bind(str(library), f"{INSIDE}/library/{library.name}")
    args += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    args += ["--perms", "1777", "--size", str(tmp_bytes), "--tmpfs", TMP, "--chdir", TMP, "--remount-ro", "/"]
    if seccomp_fd is not None:
        args += ["--seccomp", str(seccomp_fd)]
    return [*args, "--", *python_command(config, f"{INSIDE}/code", f"{INSIDE}/library")]
