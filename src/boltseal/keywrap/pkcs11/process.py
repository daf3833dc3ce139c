"""Starting, asking and ending the process that has the module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

from boltseal.errors import IntegrityError, KeyServiceError
from boltseal.keywrap.pkcs11 import frames

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULE = "boltseal.keywrap.pkcs11._worker"
_END_SECONDS = 2  # that it may take to log out


class RefusedError(Exception):
    """The process answered that something failed: ``name`` is what, mostly the library's name."""

    def __init__(self, name: str, text: str = "", pin: str = "") -> None:
        super().__init__(name)
        self.name = name
        self.text = text
        self.pin = pin


class Worker:
    """A child process with one module in it. Not for several threads at once."""

    def __init__(self, module: str, environment: Mapping[str, str], seconds: float) -> None:
        """``environment`` is what it is started with; one answer may take ``seconds``."""
        self._name = f"the PKCS#11 module {module}"
        self._seconds = seconds
        try:
            self._process = subprocess.Popen(  # noqa: S603  this program's own module
                # -P: no Python file of the current folder gets into it
                [sys.executable or "python3", "-P", "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=_variables(environment),
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        except OSError:
            raise KeyServiceError("the process for a PKCS#11 module cannot be started") from None
        # also when nobody ends it, at the latest with this program
        self._end = weakref.finalize(self, _end, self._process)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self._end.alive

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Ask one question. Raises RefusedError, or KeyServiceError when no answer comes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            frames.send(
                self._process.stdin.fileno(), {"ask": what, "seconds": self._seconds, **more}
            )
            answer = frames.receive(self._process.stdout.fileno(), self._seconds)
        except TimeoutError:
            self.kill()
            raise KeyServiceError(
                f"{self._name} did not answer within {self._seconds:g} seconds",
                hint="is the token plugged in? give it more time with --provider-timeout",
            ) from None
        except (OSError, IntegrityError):
            answer = None
        except BaseException:
            self.kill()  # whatever it was going to answer is no answer to the next question
            raise
        if answer is None:
            raise self._gone()
        if "error" in answer:
            raise RefusedError(*(_shown(answer.get(name)) for name in ("error", "text", "pin")))
        return answer

    def end(self) -> None:
        """Let it log out and end."""
        self._end()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._end()

    def _gone(self) -> KeyServiceError:
        self._end()
        code = self._process.returncode
        how = "ended" if code >= 0 else f"crashed ({signal.strsignal(-code) or -code})".lower()
        return KeyServiceError(
            f"{self._name} {how} instead of answering",
            hint="try the module with its vendor's own tool",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's variables, for the module; and Python's, so that it finds what we found."""
    own = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    path = os.pathsep.join(os.path.abspath(one) for one in sys.path)
    return {**own, "PYTHONPATH": path}


def _shown(value: object) -> str:
    """Foreign words: one line, short, nothing that a terminal obeys."""
    text = value if isinstance(value, str) else ""
    return "".join(one if one.isprintable() else "?" for one in text)[:200]
