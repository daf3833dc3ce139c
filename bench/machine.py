"""What was measured on: enough to judge the figures by, and no name or path."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

_TOOLS = {
    "OpenSSL": ["openssl", "version"],
    "skopeo": ["skopeo", "--version"],
    "umoci": ["umoci", "--version"],
    "docker-registry": ["docker-registry", "--version"],
    "Go": ["go", "version"],
}


def describe() -> dict[str, str]:
    """Processor, cores, memory, kernel, and the version of everything that takes part."""
    kib = _line("/proc/meminfo", r"MemTotal:\s*(\d+)") or "0"
    found = {
        "processor": _line("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(kib) / (1 << 20):.0f} GiB",
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
        "cryptography": version("cryptography"),
        "Boltseal": version("boltseal"),
    }
    for name, command in _TOOLS.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            number = re.search(r"\d+\.\d[\w.+-]*", done.stdout + done.stderr)
            found[name] = number.group() if number else "unknown"
    return found


def _line(path: str, pattern: str) -> str | None:
    file = Path(path)
    match = re.search(pattern, file.read_text()) if file.is_file() else None
    return match.group(1).strip() if match else None
