#!/bin/sh
# Install the programs that the tests talk to, from Debian's packages. Without root it only says
# what is missing: those tests then skip, and say why.
set -eu
missing=
postgresql=$(echo /usr/lib/postgresql/*/bin | tr ' ' ':') # off the PATH, one for each version
need() { # need PROGRAM PACKAGE
    PATH="$PATH:/usr/sbin:/sbin:$postgresql" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need skopeo skopeo
need umoci umoci
need podman podman
need runc runc
need containerd containerd
need buildah buildah
need docker-registry docker-registry
need busybox busybox-static
need zstd zstd
need unpigz pigz
need igzip isal
need openssl openssl
need git git
need debootstrap debootstrap
need unshare util-linux
need go golang-go
need gpg gnupg
need softhsm2-util softhsm2
need postgres postgresql
need setpriv util-linux
need chromium chromium
need chromedriver chromium-driver
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing the peers:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "these peers are missing, their tests will be skipped:$missing"
fi
