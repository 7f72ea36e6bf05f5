"""A `python` for the projects of tests that starts fast: it forks from one that has the libraries.

A `dvc repro` of the small project took 54 seconds of a processor, of which 22 went into loading
torch, matplotlib and the like, once for each `python -m stages.NAME`. A server, one for each worker
of pytest, has loaded these libraries, and nothing of ours. For each start it forks, and the fork
runs the same module as `python -m` would: the code in the caller's folder, with the caller's
environment, arguments and files; it ends as any Python, and its caller gets its status. All but
stages and `python -m ncn` is left to the real Python. Beside it stands the command `dvc`, as in any
environment.

What a test claims about starting itself, about signals and process groups, or about runs that
share nothing (each fork has the server's hash seed), it shows with the real one.
"""

import atexit
import gc
import importlib
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from ast import literal_eval
from contextlib import suppress
from functools import cache
from pathlib import Path

LIBRARIES = (
    "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "matplotlib.font_manager", "numpy", "pydantic", "requests", "ruamel.yaml",
    "safetensors.torch", "scipy.ndimage", "scipy.optimize", "scipy.special", "tiktoken",
    "tokenizers", "torch", "tqdm", "vl_convert", "yaml",
)  # fmt: skip

LAUNCHER = """#!/bin/sh
case "$1 $2" in
"-m stages."* | "-m ncn") exec {python} -IS {client} {socket} "$@" ;;
esac
exec {python} "$@"
"""
CLIENT = """import os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(repr((sys.argv[3], sys.argv[4:], os.getcwd(), dict(os.environ))).encode())
    server.shutdown(socket.SHUT_WR)
    status = int(server.recv(16) or 1)
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@cache
def forked_python() -> Path:
    """A folder with that `python`, to stand first on PATH; its server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="python-"))
    place = folder / "socket"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "1"}
    environment["HOME"] = str(folder)  # whose libraries read no settings of the user's
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno()), str(folder / "python")],
            stdin=subprocess.PIPE, pass_fds=[listener.fileno()], env=environment,
        )  # fmt: skip
    (folder / "client.py").write_text(CLIENT)
    words = {"python": sys.executable, "client": folder / "client.py", "socket": place}
    (folder / "python").write_text(
        LAUNCHER.format_map({name: shlex.quote(str(word)) for name, word in words.items()})
    )
    (folder / "python").chmod(0o755)
    (folder / "dvc").symlink_to(Path(sys.executable).with_name("dvc"))

    def stop() -> None:
        server.communicate()  # closes what it waits at
        shutil.rmtree(folder)

    atexit.register(stop)
    return folder


def serve(listener: socket.socket) -> None:
    """Fork for each caller until stdin ends; returns in a fork, where the caller's module runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C, of all tests, ends it without a word
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        with suppress(ChildProcessError):  # those that are done: their time counts as the suite's
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if run_for(connection):
                return
            os._exit(0)
        connection.close()


def run_for(connection: socket.socket) -> bool:
    """Fork once more: True in the one that is to run, made the caller's; the other waits for it."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        module, arguments, folder, environment = literal_eval(stream.read().decode())
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        connection.sendall(b"%d" % os.waitstatus_to_exitcode(status))
        return False
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    coding = sys.stdout.encoding
    sys.stdin = os.fdopen(0, encoding=coding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=coding, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding=coding, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv[:] = [module, *arguments]
    return True


if __name__ == "__main__":
    sys.executable = sys.argv[2]
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        for library in LIBRARIES:
            importlib.import_module(library)
        gc.freeze()  # a search of it for waste would copy it in each fork
        serve(listener)
    status = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # As Python ends, but that it does not take torch apart.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status & 255)
