r"""Chapters in Colab's versions, in an environment of their own, with a stand-in for ``google.colab``.

``python _ext/colab.py [NN …]`` (``make colab``) installs what Colab's image of August 2026 holds into ``.venv-colab``,
but for torch, of which any build will do, and runs the chapters there as Colab does: the set-up cell installs lectool,
sliders and bars are live, and a tensor that reaches matplotlib unconverted is an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
from environment import ROOT, UNCONVERTED, read_stamp, write_stamp
from execute import notebooks
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

PLACE = ROOT / ".venv-colab"
IMAGE = {
    "python": "3.13",
    "torch": "2.11.0",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "ipywidgets": "7.7.1",
    "ipython": "7.34.0",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "networkx": "3.6.1",
    "tqdm": "4.67.1",
    "pooch": "1.9.0",
    "pillow": "11.3.0",
}
KERNEL = ["ipykernel==6.17.1", "scikit-image==0.25.2", "setuptools", "wheel"]
# What Colab has and a bare Python has not: its module, imported before the first cell, and pip as a magic. The
# repository is asked of this tree; everything else is left to pip.
STARTUP = """
import shlex, subprocess, sys, types
sys.modules["google"] = types.ModuleType("google")
sys.modules["google.colab"] = sys.modules["google"].colab = types.ModuleType("google.colab")
def pip(line):
    words = [{tree!r} if word.startswith("lectool @ ") else word for word in shlex.split(line)]
    subprocess.run([sys.executable, "-m", "pip", *words, "--no-build-isolation"], check=True)
get_ipython().register_magic_function(pip, "line", "pip")
"""


def python_of(place: Path) -> str:
    return str(place / ("Scripts" if os.name == "nt" else "bin") / "python")


def pins() -> list[str]:
    exact = [
        f"{name}=={number}" for name, number in IMAGE.items() if name not in ("python", "torch")
    ]
    # The build that this environment has can be had on this machine; Colab's own needs its GPU's libraries.
    torch = version("torch").partition("+")[0]
    return [f"torch=={torch}", *exact, *KERNEL]


def install() -> None:
    """Makes the environment, unless it is there."""
    stamp = PLACE / "colab.json"
    if read_stamp(stamp).get("pins") == pins():
        return
    wanted = f"python{IMAGE['python']}"
    try:
        subprocess.run([wanted, "-m", "venv", "--clear", str(PLACE)], check=True)
    except (OSError, subprocess.CalledProcessError):
        print(f"{wanted} is not on this machine; taking {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True)
    subprocess.run([python_of(PLACE), "-m", "pip", "install", "-q", *pins()], check=True)
    write_stamp(stamp, pins=pins())


def versions() -> dict[str, str]:
    command = [python_of(PLACE), "-m", "pip", "list", "--format=json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {row["name"].lower(): row["version"] for row in listed}


def kernel(folder: Path) -> KernelSpecManager:
    """A kernel of that environment, with Colab's module in place before the first cell."""
    home, spec = folder / "ipython", folder / "kernels" / "python3"
    (home / "profile_default" / "startup").mkdir(parents=True, exist_ok=True)
    script = STARTUP.format(tree=str(ROOT))
    (home / "profile_default" / "startup" / "00-colab.py").write_text(script, "utf8")
    spec.mkdir(parents=True, exist_ok=True)
    argv = [python_of(PLACE), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    environ = {"IPYTHONDIR": str(home), "PYTHONWARNINGS": UNCONVERTED, "PYTHONPATH": ""}
    facts = {"argv": argv, "display_name": "Colab", "language": "python", "env": environ}
    (spec / "kernel.json").write_text(json.dumps(facts), "utf8")
    return KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)


def run(path: Path, folder: Path) -> str:
    """Runs one notebook; returns what went wrong, in words."""
    for name in ("LECTOOL_EXPLORE", "JPY_SESSION_NAME", "MPLBACKEND"):
        os.environ.pop(name, None)
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(nb, timeout=900, resources={"metadata": {"path": str(folder)}})
    client.km = client.create_kernel_manager()
    client.km.kernel_spec_manager = kernel(folder)
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error)[-2000:]
    widgets = [
        o for c in nb.cells for o in c.get("outputs", []) if "widget-view" in str(o.get("data", {}))
    ]
    asked = any("explore(" in c.source for c in nb.cells if c.cell_type == "code")
    return "" if widgets or not asked else "no slider is live"


def main(chosen: list[str]) -> int:
    install()
    subprocess.run(
        [python_of(PLACE), "-m", "pip", "uninstall", "-q", "-y", "lectool", "jupyterquiz"],
        check=True,
    )
    before, status = versions(), 0
    folder = ROOT / "_build" / "colab"
    folder.mkdir(parents=True, exist_ok=True)
    for path in notebooks():
        if path.parent.name != "chapters" or (chosen and path.stem.partition("-")[0] not in chosen):
            continue
        start = time.perf_counter()
        wrong = run(path, folder)
        status |= bool(wrong)
        print(f"{path.name}: {wrong or 'ran'} in {time.perf_counter() - start:.0f} s", flush=True)
    changed = {name for name, version in versions().items() if before.get(name) != version}
    print(f"installed by the set-up cell: {', '.join(sorted(changed))}")
    return status or changed != {"lectool", "jupyterquiz"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
