r"""A fresh kernel for code that nobody has read: each piece has a time limit, and the kernel may die."""

import os
import queue
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lectool

__all__ = ["Kernel", "Outcome"]

# seconds that an interrupted cell has to end by itself
GRACE = 5.0


@dataclass
class Outcome:
    r"""How a piece of code ended.

    Attributes:
        status: ``ok``, ``error``, ``timeout`` or ``dead``.
        error: what was raised, or what happened to the kernel.
        data: what was displayed with the MIME type that was asked for.
    """

    status: str
    error: str = ""
    data: list[dict[str, Any]] | None = None


class Kernel:
    r"""A Python kernel in a folder of its own; after a crash it is started anew and is empty."""

    def __init__(self, folder: Path, *, seed: int, mime: str):
        self.folder, self.mime = folder, mime
        own = str(Path(lectool.__file__).parents[1])
        paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "LECTOOL_SEED": str(seed),
            "LECTOOL_EXPLORE": "static",
            "MPLBACKEND": "Agg",
        }
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            self.environ.setdefault(name, "1")
        self.manager: Any = None
        self.client: Any = None
        self.start()

    def start(self) -> None:
        try:
            from jupyter_client.manager import KernelManager
        except ImportError as error:
            needs = "grading needs jupyter-client and ipykernel: pip install them"
            raise ValueError(needs) from error
        self.manager = KernelManager()
        # what the process itself says, and code that writes past Python
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.manager.start_kernel(cwd=str(self.folder), env=self.environ, **quiet)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        # what every submission imports, before the clock of its first cell starts
        asked = self.client.execute("import lectool.assign.inside as _; del _", store_history=False)
        self._listen(asked, time.monotonic() + 300)

    def stop(self) -> None:
        if self.client is not None:
            self.client.stop_channels()
        if self.manager is not None:
            self.manager.shutdown_kernel(now=True)
            self.manager.cleanup_resources()
        self.client = self.manager = None

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def run(self, code: str, timeout: float) -> Outcome:
        r"""Runs a cell. Where it neither ends nor can be interrupted, or crashes, a new kernel takes over."""
        asked = self.client.execute(code, store_history=False, allow_stdin=False)
        outcome = self._listen(asked, time.monotonic() + timeout)
        if outcome is None:
            self.manager.interrupt_kernel()
            ended = self._listen(asked, time.monotonic() + GRACE)
            outcome = Outcome("timeout", f"longer than {timeout:g} s")
            if ended is None or ended.status == "dead":
                outcome.status = "dead"
        if outcome.status == "dead":
            self.stop()
            self.start()
        return outcome

    def _listen(self, asked: str, deadline: float) -> Outcome | None:
        error, data = "", []
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self.client.get_iopub_msg(timeout=min(left, 0.5))
            except queue.Empty:
                if not self.manager.is_alive():
                    return Outcome("dead", "the kernel died")
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "error":
                error = f"{content['ename']}: {content['evalue']}"
            elif kind == "display_data" and self.mime in content["data"]:
                data.append(content["data"][self.mime])
            elif kind == "status" and content["execution_state"] == "idle":
                return Outcome("error" if error else "ok", error, data)
        return None
