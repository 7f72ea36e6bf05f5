"""Imported before torch: what has to be set before it, and all else that takes long, loads.

An interrupt: torch's imports lose a KeyboardInterrupt, so that the command would go on, or they
abort with it. Until `ncn.common.errors.run_command` puts the usual handler back, ^C ends the
command with one line.

Waiting threads: by default they spin, so two trainings on two cores take six times as long each as
one alone. Passive ones sleep. What the environment says itself stays.

Waste: modules are loaded to stay, so a search of them for unreachable objects finds nothing, and
takes an eighth of the time that a command needs to start. `run_command` begins to search.

Plugins of pydantic: nobody has any, and asking every installed package takes 20 ms.
"""

import gc
import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted before it began: the same command starts again\n")
    os._exit(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
    signal.signal(signal.SIGINT, _end)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
# A stage or a command, which ends in `run_command`; who imports one as a module goes on as before.
started = getattr(sys.modules["__main__"], "__spec__", None)
if started and started.parent in ("stages", "ncn"):
    gc.disable()
