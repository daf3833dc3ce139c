"""A key broker of our own to measure: made by its own commands, with a host that may have a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.case import LeftOut
from bench.measure import CommandError
from bench.workbench import boltseal, call
from boltseal._io import b64
from boltseal.jose import jwe
from boltseal.keywrap.broker import packet, protocol, public, sealing
from boltseal.keywrap.pq.keys import HybridRecipient, HybridWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.broker.public import PublicKey

PORT = 18443
TESTS = Path(__file__).parents[1] / "tests"  # has a PostgreSQL to start, and records to fill in
_POLICY = """@id("bench")
permit (principal is Boltseal::Host, action == Boltseal::Action::"unwrap", resource)
when { principal.hasTag("region") && principal.getTag("region") == "eu" };
"""


@contextmanager
def serving(
    folder: Path,
    *,
    algorithm: str,
    database: str | None = None,
    filled: tuple[int, int] = (0, 0),
    port: int = PORT,
) -> Iterator[Path]:
    """A running broker in a new folder; yields the folder with everything that a client needs.

    ``filled``: how many audit records and keys are in its database before.
    """
    folder.mkdir(parents=True)
    if database is not None:
        (folder / "address").write_text(database)
        (folder / "address").chmod(0o600)
    more = ("--database-file", str(folder / "address")) if database is not None else ()
    place = folder / "broker"
    call(boltseal("broker", "init", str(place), "--listen", f"127.0.0.1:{port}", "-q", *more))
    _host(folder)
    (folder / "policy.cedar").write_text(_POLICY)
    config = ("--config", str(place), "-q")
    call(boltseal("broker", "trust", "add", "eu", "--ca", str(folder / "ca.pem"),
                  "--label", "region=eu", *config))  # fmt: skip
    made = ("--algorithm", algorithm, "--publish", *config)
    call(boltseal("broker", "key", "create", "bench", *made))
    call(boltseal("broker", "policy", "add", str(folder / "policy.cedar"), "--activate", *config))
    if any(filled):
        _fill(place, *filled)
    command = boltseal("broker", "serve", "--config", str(place))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            if not server.stdout.readline().startswith("listening on "):
                raise CommandError("the broker did not start")
            yield folder
        finally:
            server.terminate()


def _fill(place: Path, records: int, keys: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "bench.broker_fill", str(place / "config.toml")]
    done = subprocess.run(
        [*command, str(records), str(keys)], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise CommandError(done.stderr[-300:])


def plan(
    folder: Path, count: int, *, path: str = "", port: int = PORT, is_each_new: bool = False
) -> Path:
    """A file for ``bench.broker_load``: releases, or requests of another path.

    Releases are of the same four packets again and again, as when a cluster starts an image, or
    each of another one.
    """
    base: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "ca": str(folder / "broker" / "tls" / "ca.pem"),
        "certificate": str(folder / "host.crt.pem"),
        "key": str(folder / "host.pem"),
        "in_flight": 64,
        "warm": 640,
        "count": count,
    }
    if path:
        base["path"] = path
    else:
        key = _public(folder)
        base["requests"] = [_asked(key) for _ in range(4)]
        if is_each_new:
            base["packets"] = [b64.encode(_packet(key)) for _ in range(count + base["warm"])]
    file = folder / f"plan-{path.replace('/', '-') or 'release'}.json"
    file.write_text(json.dumps(base))
    return file


def _public(folder: Path) -> PublicKey:
    done = subprocess.run(
        boltseal("broker", "key", "public", "bench", "--config", str(folder / "broker")),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CommandError(done.stderr[-300:])
    return public.parse(done.stdout.encode(), "the public half")


def _packet(key: PublicKey) -> bytes:
    """A layer's private options, wrapped for the key."""
    secret = json.dumps({"symkey": "A" * 43 + "=", "cipheroptions": {}}).encode()
    if key.is_hybrid:
        wrapped = HybridWrapper().wrap([HybridRecipient(key.hybrid())], secret)[0]
    else:
        wrapped = jwe.encrypt(secret, [(key.jose(), True)])
    return packet.build(packet.Packet(key.brokers, key.key, key.version, key.fingerprint, wrapped))


def _asked(key: PublicKey) -> dict[str, Any]:
    """The members of one request."""
    request, _ = sealing.fresh(
        key=key.key,
        version=key.version,
        packet=_packet(key),
        time=1,
        image_digest="sha256:" + "1a" * 32,
        kem=protocol.XWING if key.is_hybrid else protocol.X25519,
    )
    members = json.loads(request.encode())
    return {k: v for k, v in members.items() if k not in ("v", "nonce", "time")}


def _host(folder: Path) -> None:
    """An authority and a host's certificate, by openssl."""
    (folder / "ext").write_text("extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n")
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext"]
    for command in (
        ["req", "-x509", *ec, "-subj", "/CN=eu", "-days", "2", "-keyout", "ca.key",
         "-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign"],
        ["req", *ec, "-subj", "/CN=host-1", "-keyout", "host.pem", "-out", "host.csr"],
        ["x509", "-req", "-in", "host.csr", "-days", "2", "-out", "host.crt.pem", *ca],
    ):  # fmt: skip
        done = subprocess.run(
            ["openssl", *command], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LeftOut(f"openssl: {done.stderr[-200:]}")
