#!/bin/sh
# Make .venv with everything that a target needs, on a machine that has nothing but Python.
#   tools/bootstrap.sh run    what Boltseal itself needs
#   tools/bootstrap.sh dev    what its tests need, too
set -eu
cd "$(dirname "$0")/.."
wanted=${1:-run}
stamp=.venv/.installed-$wanted
sum=$(cat requirements/*.txt pyproject.toml | cksum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0

find_python() {
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Boltseal needs Python 3.11 or newer (Debian: apt-get install python3)" >&2
    exit 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing python3-venv"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "this Python cannot make virtual environments: install python3-venv first" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing Boltseal into .venv ($wanted)"
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"; }
pip install --require-hashes -r requirements/run.txt
pip install --require-hashes -r requirements/build.txt
[ "$wanted" = run ] || pip install --require-hashes -r requirements/dev.txt
# for the axe-core in it, which the console's test gives to a browser; not for the browser it needs
[ "$wanted" = run ] || pip install --require-hashes --no-deps -r requirements/axe.txt
pip install --no-deps --no-build-isolation -e .
.venv/bin/python -m compileall -q src
echo "$sum" >"$stamp"
