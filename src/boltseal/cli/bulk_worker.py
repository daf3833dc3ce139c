"""What workers of a Dask cluster call for ``boltseal encrypt --dask``."""

from __future__ import annotations

import os
from typing import Any

from boltseal.image.bulk import parcel


def work(sent: dict[str, Any]) -> dict[str, Any]:
    """Encrypt one image, with the logins and keys that this machine has."""
    return parcel.work(sent, os.environ)
