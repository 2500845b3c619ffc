"""Programs that try to pass without being right, to get out, or to spoil the machine. None solves its task.

The task is `f(x) == x + 1`, tested by TESTS. {SECRET} and {PORT} are filled in by the test: a file and a server
outside the sandbox.
"""

from __future__ import annotations

from typing import NamedTuple

TESTS = "assert f(1) == 2\nassert f(20) == 21\n"


class Hostile(NamedTuple):
    name: str
    source: str
    outcomes: tuple[str, ...]
    """Any of these is right; `pass` never is."""


_FAIL, _LOST = ("fail",), ("crash", "protocol", "fail")
_SPENT = ("timeout", "oom", "crash", "fail")

PROGRAMS = [
    Hostile("exit_0", "import sys\nsys.exit(0)", _FAIL),
    Hostile("exit_in_call", "import sys\ndef f(x): sys.exit(0)", _FAIL),
    Hostile("os_exit_0", "import os\nos._exit(0)", ("crash",)),
    Hostile("os_exit_in_call", "import os\ndef f(x): os._exit(0)", ("crash",)),
    Hostile("atexit", "import atexit, os\natexit.register(lambda: os._exit(0))\nraise SystemExit(0)", _FAIL),
    Hostile(
        "patched_builtins",
        "import builtins\nfor n in ('AssertionError', 'Exception', 'BaseException', 'isinstance', 'len', 'type', 'exec'):\n"
        "    setattr(builtins, n, lambda *a, **k: True)\ndef f(x): return None",
        ("fail", "crash", "protocol", "timeout"),
    ),
    Hostile("own_builtins", "def abs(x): return 0\ndef f(x): return None", _FAIL),
    Hostile(
        "always_equal",
        "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
        "    def __hash__(self): return 0\n    def __bool__(self): return True\ndef f(x): return E()",
        _FAIL,
    ),
    Hostile("always_equal_int", "class E(int):\n    def __eq__(self, o): return True\ndef f(x): return E(7)", _FAIL),
    Hostile(
        "always_equal_metaclass",
        "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = type.__hash__\n"
        "class E(metaclass=M): pass\ndef f(x): return E",
        _FAIL,
    ),
    Hostile(
        "lying_class", "class E:\n    __class__ = int\n    def __index__(self): return 2\ndef f(x): return E()", _FAIL
    ),
    Hostile("endless_loop", "while True: pass", ("timeout",)),
    Hostile(
        "endless_loop_that_catches",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        ("timeout",),
    ),
    Hostile("sleep", "import time\ndef f(x): time.sleep(3600)", ("timeout",)),
    Hostile("ten_gigabytes", "def f(x): return len(bytearray(10 << 30))", ("oom",)),
    Hostile(
        "memory_of_many",
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        b = bytearray(200 << 20)\n"
        "        for i in range(0, len(b), 4096): b[i] = 1\n        time.sleep(60)\ntime.sleep(60)",
        ("oom", "timeout"),
    ),
    Hostile(
        "memory_without_mappings",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nmade = []\n"
        "for _ in range(60):\n    fd = libc.memfd_create(b'x', 0)\n    if fd >= 0:\n        made.append(fd)\n"
        "def f(x): return -len(made)",
        _FAIL,
    ),
    Hostile(
        "shared_memory",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nids = [libc.shmget(0, 1 << 20, 0o1600) for _ in range(50)]\n"
        "ids += [libc.msgget(0, 0o1600), libc.semget(0, 1, 0o1600)]\n"
        "try:\n    open('/dev/shm/x', 'wb').write(b'x')\n    ids.append(1)\nexcept OSError: pass\n"
        "def f(x): return 'shared' if max(ids) >= 0 else 'none'",
        _FAIL,
    ),
    Hostile(
        "fork_bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", ("timeout", "oom", "crash")
    ),
    Hostile(
        "thread_bomb",
        "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    except RuntimeError: pass",
        ("timeout", "oom", "crash"),
    ),
    Hostile(
        "exec_bomb",
        "import os, sys\ndef f(x):\n    for _ in range(10000):\n        os.spawnv(os.P_NOWAIT, '/bin/sh', ['sh', '-c', 'while :; do :; done'])",
        _SPENT,
    ),
    Hostile(
        "write_outside",
        "import os\nwrote = []\nfor p in ('/x', '/usr/x', '/etc/x', '/dev/x', '/proc/sys/kernel/hostname', '/opt/forgetbench/x',\n"
        "          '/root/x', '/home/x', '/var/tmp/x', '/run/x', {SECRET!r}):\n"
        "    try:\n        open(p, 'w').write('x')\n        wrote.append(p)\n    except OSError: pass\n"
        "def f(x): return wrote or None",
        _FAIL,
    ),
    Hostile(
        "change_what_is_read_only",
        "import os, sys\ndone = []\nfor act in (lambda p: os.chmod(p, 0o777), lambda p: os.utime(p), lambda p: os.setxattr(p, 'user.x', b'1'),\n"
        "            os.unlink, lambda p: os.truncate(p, 0)):\n    try:\n        act(os.__file__)\n        done.append(1)\n    except OSError: pass\n"
        "def f(x): return done or None",
        _FAIL,
    ),
    Hostile(
        "fill_disk",
        "import os\ndef f(x):\n    n = 0\n    try:\n        with open('big', 'wb') as out:\n            while True: n += out.write(bytes(1 << 20))\n"
        "    except OSError: return n if n > 64 << 20 else -1",
        ("fail", "crash", "oom"),
    ),
    Hostile(
        "many_files",
        "def f(x):\n    i = 0\n    while True:\n        open(f'f{i}', 'w').close()\n        i += 1",
        ("oom", "fail", "timeout"),
    ),
    Hostile(
        "deep_folders",
        "import os\ndef f(x):\n    for i in range(900):\n        os.mkdir('d')\n        os.chdir('d')\n    return -1",
        _FAIL,
    ),
    Hostile(
        "read_environment",
        "import os, glob\nfound = repr(dict(os.environ))\nfor p in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline'):\n"
        "    try: found += open(p).read()\n    except OSError: pass\ndef f(x): return 'leak' if 'hunter2' in found else None",
        _FAIL,
    ),
    Hostile(
        "read_files",
        "import os\nfound = []\nfor p in ({SECRET!r}, '/etc/passwd', '/etc/shadow', '/root/.ssh', '/proc/1/root/etc/shadow', '/proc/1/cwd/..' + {SECRET!r},\n"
        "          '/proc/self/root' + {SECRET!r}):\n    try:\n        os.stat(p)\n        found.append(p)\n    except OSError: pass\n"
        "def f(x): return found or None",
        _FAIL,
    ),
    Hostile(
        "network",
        "import socket\ndef f(x):\n    s = socket.create_connection(('127.0.0.1', {PORT}), 0.5)\n    s.sendall(b'hello')\n    return x",
        _FAIL,
    ),
    Hostile(
        "other_sockets",
        "import socket\nmade = []\nfor family in (2, 10, 16, 17, 40):\n    for kind in (1, 2, 3):\n        try:\n            socket.socket(family, kind)\n"
        "            made.append(family)\n        except OSError: pass\ndef f(x): return made or None",
        _FAIL,
    ),
    Hostile(
        "kill_everything",
        "import os, signal\nfor _ in range(3):\n    try: os.kill(-1, signal.SIGKILL)\n    except OSError: pass\n"
        "for p in range(1, 400):\n    if p != os.getpid():\n        try: os.kill(p, signal.SIGKILL)\n        except OSError: pass\n"
        "def f(x): return None",
        _LOST,
    ),
    Hostile("kill_parent", "import os\nos.kill(os.getppid(), 9)\ndef f(x): return None", _LOST),
    Hostile(
        "endless_output",
        "import os\ndef f(x):\n    while True:\n        os.write(1, b'x' * 65536)\n        os.write(2, b'x' * 65536)\n        print('x' * 65536)",
        ("timeout",),
    ),
    Hostile(
        "left_behind",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n    os._exit(0)\n"
        "def f(x): return None",
        _FAIL,
    ),
    Hostile(
        "links",
        "import os\nfor i, p in enumerate(('/usr', '/', '/proc/1', {SECRET!r}, '/opt/forgetbench')):\n    os.symlink(p, f'l{i}')\n"
        "os.mkdir('locked')\nopen('locked/x', 'w').close()\nos.chmod('locked', 0)\ndef f(x): return None",
        _FAIL,
    ),
    Hostile(
        "forged_frames",
        "import json, os, struct\nfor m in (['loaded'], ['returned', 2, {}], ['passed', ''], ['names', {'f': ['value', 1]}], {'id': 1, 'outcome': 'pass', 'why': ''},\n"
        "          {'id': 1, 'end': 'judged', 'why': ''}):\n    b = json.dumps(m).encode()\n    for fd in range(64):\n        try: os.write(fd, struct.pack('<I', len(b)) + b)\n"
        "        except OSError: pass\ndef f(x): return None",
        ("fail", "protocol", "crash"),
    ),
    Hostile(
        "huge_frame",
        "import os, struct\nos.write(3, struct.pack('<I', 2**32 - 1) + b'[' * 100000)\ndef f(x): return None",
        ("protocol", "crash", "timeout"),
    ),
    Hostile("closed_channel", "import os\nos.close(3)\ndef f(x): return None", _LOST),
    Hostile(
        "patched_codec",
        "import sys\ncodec = sys.modules['inside.codec']\ncodec.encode = codec._encode = lambda v, **k: ['o', 'x', True]\n"
        "sys.modules['inside.candidate'].encode = codec.encode\ndef f(x): return 0",
        _FAIL,
    ),
    Hostile(
        "forms_that_do_not_decode",
        "import sys\nc = sys.modules['inside.candidate']\nc.encode = lambda v, **k: ['s', ['l', 1], ['zz']]\ndef f(x): return 0",
        ("protocol",),
    ),
    Hostile(
        "deep_value", "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a", ("fail", "crash")
    ),
    Hostile("endless_iterator", "import itertools\ndef f(x): return itertools.count()", _FAIL),
    Hostile("null_pointer", "import ctypes\ndef f(x): ctypes.string_at(0)", ("crash",)),
    Hostile(
        "tests_in_frames",
        # The word is turned round, so that the program does not find itself.
        "import gc, sys\nturned = '== )02(f tressa'\ndef f(x):\n    frame, seen = sys._getframe(), []\n    while frame:\n"
        "        seen += [repr(frame.f_locals), repr(frame.f_globals)]\n        frame = frame.f_back\n"
        "    seen += [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple)]\n"
        "    return x + 1 if any(turned[::-1] in s for s in seen) else None",
        _FAIL,
    ),
    Hostile(
        "tests_in_memory",
        "import ctypes\nnext_bytes = (41, 32, 61, 61, 32, 50, 49)\ndef f(x):\n    hits = own = 0\n    for line in open('/proc/self/maps'):\n"
        "        where, rights = line.split()[:2]\n        a, b = (int(v, 16) for v in where.split('-'))\n"
        "        if not rights.startswith('rw') or b - a > 64 << 20 or 'vv' in line: continue\n"
        "        blob = ctypes.string_at(a, b - a)\n        at = blob.find(b'assert f(20')\n        while at >= 0:\n"
        "            own += 1\n            hits += tuple(blob[at + 11:at + 18]) == next_bytes\n            at = blob.find(b'assert f(20', at + 1)\n"
        "    return x + 1 if hits or not own else None",
        _FAIL,
    ),
    Hostile(
        "read_the_judge",
        "import os\ndef f(x):\n    for p in os.listdir('/proc'):\n        if p.isdigit() and int(p) != os.getpid():\n            for name in ('mem', 'fd', 'maps', 'environ'):\n"
        "                try:\n                    os.listdir(f'/proc/{p}/fd') if name == 'fd' else open(f'/proc/{p}/{name}', 'rb').read(1)\n                    return x + 1\n                except OSError: pass",
        _FAIL,
    ),
    Hostile(
        "denied_calls",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nworked = []\n"
        "judge = [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]\n"
        "for name, args in (('ptrace', (16, judge[0], 0, 0)), ('unshare', (0x10000000,)), ('mount', (b'x', b'/tmp', b'tmpfs', 0, None)),\n"
        "                   ('setuid', (0,)), ('chroot', (b'/tmp',)), ('sethostname', (b'x', 1))):\n"
        "    if getattr(libc, name)(*args) == 0: worked.append(name)\ndef f(x): return worked or None",
        _FAIL,
    ),
    Hostile(
        "raised_limits",
        "import resource\ndef f(x):\n    for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):\n"
        "        try:\n            resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n            return x + 1\n        except (ValueError, OSError): pass",
        _FAIL,
    ),
]
