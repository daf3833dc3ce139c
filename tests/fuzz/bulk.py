"""Lists and journals of bulk runs: a reader of both, and where it begins."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz.readers import Read

WORDS = (
    b"oci:", b"docker://", b"oci-archive:", b"dir:", b" # ", b"\n", b"@sha256:", b"/../", b":v1",
    b'{"source":', b'"destination":', b'"layers":["-1"]', b'"platforms":["linux/arm64"]',
    b'"recipients":["jwe:x"]', b'"state":"encrypted"', b'"state":"failed"', b'"error":null',
    b'"boltseal-bulk-journal":1', b"sha256:" + b"0" * 64, b"\xe2\x80\xa8", b"\\ud800",
)  # fmt: skip
_HEADER: dict[str, object] = {"recipients": [], "identities": [], "options": {}}
_DIGEST = "sha256:" + "a" * 64


def reader() -> Read:
    """An input as a list, and as a journal."""
    from boltseal.errors import BoltsealError
    from boltseal.image.bulk import journal
    from boltseal.image.bulk.jobs import as_jobs, parse_list
    from boltseal.image.bulk.template import Template

    template = Template("docker://r.example/{repository}:{tag}")

    def read(data: bytes) -> None:
        with suppress(BoltsealError):
            as_jobs(parse_list(data, "list", template))
        entries, whole = journal.parse(data, _HEADER)
        assert whole == data.rfind(b"\n") + 1
        assert all(entry.destination == name for name, entry in entries.items())

    return read


def given() -> list[bytes]:
    """A list in both forms, and a journal with its end torn."""
    header = json.dumps({"boltseal-bulk-journal": 1, **_HEADER})
    entry = {"source": "oci:a:v1", "source_digest": _DIGEST, "destination": "oci:b:v1",
             "digest": _DIGEST, "state": "encrypted", "job": _DIGEST, "error": None}  # fmt: skip
    failed = {**entry, "digest": None, "state": "failed", "error": "no such tag"}
    objects = {"source": "oci:a:v1", "destination": "dir:b", "layers": ["0..2"]}
    journal = "\n".join([header, json.dumps(entry), json.dumps(failed)]) + "\n"
    return [
        b"# images\noci:a:v1 oci:b:v1\ndocker://r.example/team/app:v1\n",
        json.dumps(objects).encode() + b"\n",
        journal.encode(),
        journal.encode()[:-20],
    ]
