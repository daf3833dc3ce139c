"""A module that is put off is loaded when it is used, and not before."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CASES = {
    "imported": ("from package import late", False),
    "used": ("from package import late; assert late.VALUE == 7", True),
    "as a module": ("import package.late; assert package.late.VALUE == 7", True),
    "a name of it": ("from package.late import VALUE; assert VALUE == 7", True),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_loaded_when_it_is_used(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "late.py").write_text("print('loaded')\nVALUE = 7\n")
    statement, loaded = CASES[case]
    code = f"from boltseal._io.lazy import put_off; put_off('package', 'late'); {statement}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("loaded\n" if loaded else "")


@pytest.mark.parametrize("name", ["os", "nothing"])
def test_what_is_loaded_or_missing_stays_so(name: str) -> None:
    code = (
        "import sys, importlib, os.path\n"
        "from boltseal._io.lazy import put_off\n"
        f"before = sys.modules.get('email.{name}')\n"
        f"put_off('email', '{name}')\n"
        f"assert sys.modules.get('email.{name}') is before\n"
        "import email.message; kept = sys.modules['email.message']\n"
        "put_off('email', 'message'); assert sys.modules['email.message'] is kept\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_two_threads_that_are_the_first_at_once(tmp_path: Path) -> None:
    """One has looked, and goes on when the other one has loaded the module: it stays the one."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "late.py").write_text("print('loaded')\nVALUE = 7\n")
    code = """
import sys, threading, types
from boltseal._io import lazy

lazy.put_off("package", "late")
from package import late

looked, done = threading.Event(), threading.Event()

class Modules(dict):
    def get(self, name):
        found = sys.modules.get(name)
        if threading.current_thread() is slow:
            looked.set()
            done.wait(0.3)
        return found

    def pop(self, *given):
        return sys.modules.pop(*given)

    def __delitem__(self, name):
        del sys.modules[name]

lazy.sys = types.SimpleNamespace(modules=Modules())
slow = threading.Thread(target=lambda: print(late.VALUE))
slow.start()
looked.wait()
print(late.VALUE)
done.set()
slow.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "loaded\n7\n7\n"


def test_what_loads_inspect_meanwhile_gets_the_one_that_stays(tmp_path: Path) -> None:
    """As a version of ``dataclasses`` would that uses more of it while it is imported."""
    (tmp_path / "dataclasses.py").write_text("import inspect\ninspect.unwrap\nFOUND = inspect\n")
    code = (
        "import sys; sys.path.insert(0, '')\n"
        "from boltseal._io.lazy import dataclasses_alone\n"
        "assert not {'dataclasses', 'inspect'} & set(sys.modules)\n"
        "dataclasses_alone(); import dataclasses\n"
        "real = sys.modules['inspect']\n"
        "assert real is not dataclasses.FOUND\n"
        "assert dataclasses.FOUND.unwrap is real.unwrap\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
