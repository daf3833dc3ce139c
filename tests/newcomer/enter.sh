#!/bin/sh
# enter.sh ROOT COMMAND…: run a command inside a container root, in mount and process namespaces of
# its own, with an environment that has nothing but what this machine needs to reach its packages.
set -eu
root=$1
shift
[ "${ENTERED:-}" ] || ENTERED=1 exec unshare --mount --propagation private --pid --fork sh "$0" "$root" "$@"
# the root has to be a mount of its own: Podman remounts / to unpack a layer
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
keep=$(env | grep -E '^(PIP_|SSL_|CURL_|REQUESTS_|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' || true)
IFS='
'
# shellcheck disable=SC2086
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root LANG=C.UTF-8 TERM=dumb $keep "$@"
