"""Run generated Python programs and their tests: `get_sandbox().run(Program(...)) -> Result`.

One fork-server under bubblewrap serves all programs of a run. For each it forks two processes: the *judge*
holds the tests, the *candidate* runs the program and answers the judge's calls with values of plain types.
A pass is the judge's word, so the program cannot forge it: it never sees the tests or an expected value.

What this covers (tests/scoring/sandbox/ has a hostile program for each):
- network: none (own namespace; sockets other than AF_UNIX are denied);
- files: a read-only view of the system's libraries and Python; one temporary folder of 16 MiB and 1,000
  files, emptied after each program; nothing of the user's folders, configuration or environment;
- time: 10 s of wall time for a program with its tests, and of CPU time for each of its processes;
- memory: 2 GiB of address space a process, 2 GiB for all together (looked at every 50 ms); no memfd, no
  System V or POSIX shared memory; 16 processes and threads;
- output: standard streams lead nowhere, so there is nothing to flood;
- other processes: own process namespace, another user than server and judge where forgetbench runs as root;
  all that a program leaves running is killed before the next one starts;
- lies: sys.exit(0), os._exit(0), patched built-ins, an always-equal `__eq__`, forged messages.

What it does NOT cover:
- a hole in the kernel. bubblewrap is namespaces and a filter of system calls, not a virtual machine; the
  kernel's version and boot line, the CPU, and the system's programs under /usr can be read;
- side channels, and wasted time: a program may use its 10 s and its 2 GiB to the full;
- memory between two looks, 50 ms apart, and the kernel's own memory for what a program opens;
- integrity `weak`: tests that build the program's own classes run in its process (one item of MBPP). There a
  program written to cheat can pass. Such results say so;
- without root, judge and candidate are one user: a program can kill the judge, which is scored `crash`;
- architectures other than x86_64 and aarch64 get no filter of system calls;
- `--unsafe-exec`: limits on time and memory, and the two processes, but no sandbox at all.

Where bubblewrap does not work nothing is run: `get_sandbox` raises a UsageError that names the cure. It tries
a canary program first, since a bwrap that is installed may still be forbidden to make namespaces.
"""

from forgetbench.scoring.sandbox.host import CURE, Sandbox, get_sandbox
from forgetbench.scoring.sandbox.types import Integrity, Limits, Program, Result, RunOutcome

__all__ = ["CURE", "Integrity", "Limits", "Program", "Result", "RunOutcome", "Sandbox", "get_sandbox"]
