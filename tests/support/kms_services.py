"""All key services at once, and the variables with which a user's shell would find them.

``python -m support.kms_services FOLDER`` starts them, prints ``export`` lines, and serves until
its standard input ends.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support import kms_aws, kms_azure, kms_google
from support.kms_http import running
from support.kms_tls import Proxy, certificates
from support.kms_vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "images"  # of the key, in each of them


@dataclass
class Services:
    """The doubles, and ``environment`` for whoever is to use them."""

    aws: kms_aws.Front
    vault: Vault
    azure: kms_azure.KeyVault
    google: kms_google.GoogleKms
    proxy: Proxy
    environment: dict[str, str]


@contextlib.contextmanager
def all_services(folder: Path) -> Iterator[Services]:
    """Start every service with a key called ``images``."""
    authority, certificate, key = certificates(
        folder, kms_google.HOST, "*.vault.azure.net", "localhost"
    )
    with contextlib.ExitStack() as stack:
        aws = stack.enter_context(kms_aws.moto())
        kms_aws.make_key(aws, NAME)
        vault = stack.enter_context(running(Vault(token="hvs.example")))
        vault.make(NAME)
        azure = stack.enter_context(running(kms_azure.KeyVault(certificate, key)))
        azure.make(NAME)
        identity = stack.enter_context(running(kms_azure.ManagedIdentity(azure)))
        google = kms_google.GoogleKms(account=kms_google.service_account(folder / "account.json"))
        stack.callback(google.stop)
        google.make(kms_google.KEY)
        routes = {
            kms_google.HOST: google.start((certificate, key)),
            kms_azure.HOST: azure.port,
        }
        proxy = stack.enter_context(running(Proxy(routes)))
        environment = {
            **kms_aws.ENVIRONMENT,
            "AWS_ENDPOINT_URL": aws.url,
            "VAULT_ADDR": vault.url,
            "VAULT_TOKEN": "hvs.example",
            **identity.environment(),
            "REQUESTS_CA_BUNDLE": str(authority),
            "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json"),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority),
            "HTTPS_PROXY": proxy.url,
            "https_proxy": proxy.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        yield Services(aws, vault, azure, google, proxy, environment)


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """What a page about key services needs: everything started, and the variables to export."""
    with tempfile.TemporaryDirectory() as folder, all_services(Path(folder)) as services:
        yield services.environment


def main(folder: str) -> None:
    with all_services(Path(folder)) as services:
        for name, value in services.environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        print(flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
