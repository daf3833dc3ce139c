#!/bin/sh
# Pin every dependency with its hashes, for every Python we support. Names no index.
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --upgrade "$@"
}
compile pyproject.toml -o requirements/run.txt
compile requirements/build.in -o requirements/build.txt
compile pyproject.toml --all-extras requirements/dev.in -c requirements/run.txt -o requirements/dev.txt
compile requirements/axe.in --no-deps -o requirements/axe.txt
