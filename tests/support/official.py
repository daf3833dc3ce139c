"""What common images have in their configs, as far as it could be taken for a secret."""

from __future__ import annotations

from typing import Any

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _nop(text: str) -> dict[str, Any]:
    return {"created_by": f"/bin/sh -c #(nop)  {text}", "empty_layer": True}


PYTHON: dict[str, Any] = {
    "config": {
        "Env": [
            _PATH,
            "LANG=C.UTF-8",
            "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D",
            "PYTHON_VERSION=3.12.7",
            "PYTHON_SHA256=24887b92e2afd4a2ac602419ad4b596372f67ac9b077190f459aba390faf5550",
            "PYTHON_GET_PIP_URL=https://github.com/pypa/get-pip/raw/66d8a0f6/public/get-pip.py",
            "PYTHON_GET_PIP_SHA256=bc37786ec99618416cc0a0ca32833da447f4d91ab51d2c138dd15b7af21e8e9a",
        ],
        "Cmd": ["python3"],
    },
    "history": [
        {
            "created_by": "RUN /bin/sh -c set -eux; wget -O python.tar.xz "
            '"https://www.python.org/ftp/python/${PYTHON_VERSION%%[a-z]*}/Python-$PYTHON_VERSION.'
            'tar.xz"; '
            'echo "$PYTHON_SHA256 *python.tar.xz" | sha256sum -c -; '
            'GNUPGHOME="$(mktemp -d)"; export GNUPGHOME; '
            'gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys "$GPG_KEY"; # buildkit',
            "comment": "buildkit.dockerfile.v0",
        },
        {"created_by": "ENV GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", "empty_layer": True},
    ],
}
NODE: dict[str, Any] = {
    "config": {
        "Env": [_PATH, "NODE_VERSION=20.18.0", "YARN_VERSION=1.22.22"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["node"],
    },
    "history": [
        {
            "created_by": "/bin/sh -c ARCH= OPENSSL_ARCH= && "
            'dpkgArch="$(dpkg --print-architecture)" '
            "&& case \"${dpkgArch##*-}\" in amd64) ARCH='x64' OPENSSL_ARCH='linux-x86_64';; esac "
            "&& for key in 4ED778F539E3634C779C87C6D7062848A1AB005C "
            "141F07595B7B3FFE74309A937405533BE57C7D57 ; do { gpg --batch --keyserver "
            'hkps://keys.openpgp.org --recv-keys "$key" && gpg --batch --fingerprint "$key"; '
            "} ; done"
        },
        _nop("ENV YARN_VERSION=1.22.22"),
        _nop('CMD ["node"]'),
    ],
}
NGINX: dict[str, Any] = {
    "config": {
        "Env": [_PATH, "NGINX_VERSION=1.27.2", "NJS_VERSION=0.8.6", "PKG_RELEASE=1~bookworm"],
        "Labels": {"maintainer": "NGINX Docker Maintainers <docker-maint@nginx.com>"},
        "ExposedPorts": {"80/tcp": {}},
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
    },
    "history": [
        {
            "created_by": "/bin/sh -c set -x && groupadd --system --gid 101 nginx && "
            'NGINX_GPGKEYS="573BFD6B3D8FBC641079A6ABABF5BD827BD9BF62 '
            '8540A6F18833A80E9C1653A42FD21310B49F6B46"; '
            "NGINX_GPGKEY_PATH=/etc/apt/keyrings/nginx-archive-keyring.gpg; "
            "export GNUPGHOME=\"$(mktemp -d)\"; found=''; for NGINX_GPGKEY in $NGINX_GPGKEYS; do "
            'gpg1 --keyserver "$server" --keyserver-options timeout=10 --recv-keys '
            '"$NGINX_GPGKEY" && found=yes && break; done'
        }
    ],
}
POSTGRES: dict[str, Any] = {
    "config": {
        "Env": [
            _PATH,
            "GOSU_VERSION=1.17",
            "LANG=en_US.utf8",
            "PG_MAJOR=17",
            "PG_VERSION=17.0-1.pgdg120+1",
            "PGDATA=/var/lib/postgresql/data",
        ],
        "Volumes": {"/var/lib/postgresql/data": {}},
        "Cmd": ["postgres"],
        "StopSignal": "SIGINT",
    },
    "history": [
        {
            "created_by": "RUN /bin/sh -c set -ex; key='B97B0AFCAA1A47F044F244A07FCFF7D07CE88CC0'; "
            'export GNUPGHOME="$(mktemp -d)"; mkdir -p /usr/local/share/keyrings/; gpg --batch '
            '--keyserver keyserver.ubuntu.com --recv-keys "$key"; gpg --batch --export --armor '
            '"$key" > /usr/local/share/keyrings/postgres.gpg.asc; # buildkit'
        }
    ],
}
GOLANG: dict[str, Any] = {
    "config": {
        "Env": [
            "PATH=/go/bin:/usr/local/go/bin:/usr/bin:/bin",
            "GOLANG_VERSION=1.23.2",
            "GOTOOLCHAIN=local",
            "GOPATH=/go",
        ]
    },
    "history": [
        {
            "created_by": "RUN /bin/sh -c set -eux; url='https://dl.google.com/go/go1.23.2.linux-"
            "amd64.tar.gz'; "
            "sha256='542d3c1705f1c6a1c5a80d5dc62e2e45171af291e755d591c5e6531ef63b454e'; "
            'wget -O go.tgz.asc "$url.asc"; echo "$sha256 *go.tgz" | sha256sum -c -'
        }
    ],
}
DEBIAN: dict[str, Any] = {
    "config": {"Env": [_PATH], "Cmd": ["bash"]},
    "history": [
        {"created_by": "# debian.sh --arch 'amd64' out/ 'bookworm' '@1728000000'"},
        _nop('CMD ["bash"]'),
    ],
    "container_config": {
        "Hostname": "5f0d7a1fd1f2",
        "Env": [_PATH],
        "Image": "sha256:" + "0a" * 32,
    },
    "docker_version": "20.10.12",
}
PHP: dict[str, Any] = {
    "config": {
        "Env": [
            "PHPIZE_DEPS=autoconf \t\tdpkg-dev \t\tfile \t\tg++ \t\tgcc",
            "PHP_INI_DIR=/usr/local/etc/php",
            "PHP_CFLAGS=-fstack-protector-strong -fpic -fpie -O2 -D_LARGEFILE_SOURCE",
            "GPG_KEYS=39B641343D8C104B2B146DC3F9C39DC0B9698544 " + "E60913E4DF" * 4,
            "PHP_ASC_URL=https://www.php.net/distributions/php-8.3.12.tar.xz.asc",
        ]
    }
}
RABBITMQ: dict[str, Any] = {
    "config": {
        "Env": [
            "RABBITMQ_DATA_DIR=/var/lib/rabbitmq",
            "RABBITMQ_PGP_KEY_ID=0x0A9AF2115F4687BD29803A206B73A36E6026DFCA",
            "OPENSSL_PGP_KEY_IDS=0x8657ABB260F056B1E5190839D9C4D26D0E604491 0xBA5473A2B0587B07",
        ]
    }
}
NGINX_ALPINE: dict[str, Any] = {
    "history": [
        {
            "created_by": 'RUN /bin/sh -c set -x && KEY_SHA512="' + "e09fa32f0a0eab2b" * 8 + '" && '
            "wget -O /tmp/nginx_signing.rsa.pub https://nginx.org/keys/nginx_signing.rsa.pub && "
            'if echo "$KEY_SHA512 */tmp/nginx_signing.rsa.pub" | sha512sum -c -; then echo '
            '"key verification succeeded!"; fi'
        }
    ]
}
CUDA: dict[str, Any] = {
    "config": {
        "Env": [
            "NVIDIA_REQUIRE_CUDA=cuda>=12.6 brand=tesla,driver>=470,driver<471",
            "NV_CUDA_CUDART_VERSION=12.6.68-1",
            "LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
        ],
        "Labels": {"maintainer": "NVIDIA CORPORATION <cudatools@nvidia.com>"},
    }
}
JENKINS: dict[str, Any] = {
    "config": {
        "Env": [
            "JENKINS_UC=https://updates.jenkins.io",
            "COPY_REFERENCE_FILE_LOG=/var/jenkins_home/copy_reference_file.log",
            "REF=/usr/share/jenkins/ref",
            "JENKINS_SLAVE_AGENT_PORT=50000",
        ],
        "Labels": {"org.opencontainers.image.revision": "bd8e1cf3b3d0c3e4a7e17b4d3b2a1b0c9d8e7f60"},
    },
    "history": [
        {"created_by": "|4 uid=1000 gid=1000 user=jenkins JENKINS_SHA=" + "1163c4554dc9" * 5}
    ],
}
MYSQL_LIKE: dict[str, Any] = {  # names that are about secrets, and hold none
    "config": {
        "Env": [
            "MYSQL_ROOT_PASSWORD_FILE=/run/secrets/db",
            "POSTGRES_PASSWORD=",
            "POSTGRES_USER=postgres",
            "SECRET_KEY=${SECRET_KEY}",
            "API_TOKEN=changeme",
            "TOKEN_EXPIRY=3600",
            "TOKENIZERS_PARALLELISM=false",
            "PAD_TOKEN=[PAD]",
            "PGP_KEY_ID=0x0A9AF2115F4687BD29803A206B73A36E6026DFCA",
            "SSL_KEY_FILE=/etc/ssl/private/server.key",
            "PRIVATE_KEY_PATH=/keys/id.pem",
            "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7" + "EXAMPLE",
            "DATABASE_URL=postgres://app:${DB_PASSWORD}@db/app",
            "DOCS_URL=https://example.org/a:b/c@d",
            "PUBLIC_KEY=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
            "KEYBOARD=de",
            "MONKEY=banana-banana-banana-1",
            "PWD=/srv/app",
            "SSH_AUTH_SOCK=/run/agent",
        ],
        "Labels": {
            "org.opencontainers.image.source": "https://github.com/example/app",
            "org.opencontainers.image.revision": "3f786850e387550fdab836ed7e6dc881de23001b",
            "com.example.token-service": "enabled",
        },
        "Healthcheck": {"Test": ["CMD-SHELL", 'mysqladmin ping -p"$MYSQL_ROOT_PASSWORD"']},
        "Cmd": ["serve", "--password", "$PASSWORD", "--token-file", "/run/secrets/token"],
    },
    "history": [
        {"created_by": "|2 BUILD_DATE=2026-01-01 VERSION=1.2.3 /bin/sh -c make install"},
        {"created_by": "ARG NPM_TOKEN", "empty_layer": True},
        {
            "created_by": "RUN /bin/sh -c --mount=type=secret,id=token npm ci "
            '--//registry.example/:_authToken="$(cat /run/secrets/token)" # buildkit'
        },
    ],
}
ALL = {
    name.lower(): config
    for name, config in globals().items()
    if name.isupper() and isinstance(config, dict)
}
