"""The environment of a run, for its manifest: versions, machine, command, time."""

import importlib.metadata
import os
import platform
import sys
from datetime import datetime
from typing import Any

from groundup.base.machine import usable_cores

_RECORDED_PACKAGES = ("groundup", "torch", "numpy", "safetensors", "regex", "scikit-learn")


def now() -> str:
    """The time with its zone, in milliseconds: two short runs may end in the same second."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def describe_environment() -> dict[str, Any]:
    """Describe package versions, the machine, the command line and the time."""
    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "written_at": now(),
        "command": sys.argv,
        "working_folder": os.getcwd(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "n_cores": usable_cores(),
        },
    }
