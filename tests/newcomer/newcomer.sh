#!/usr/bin/env bash
# What somebody does who has never seen this repository, in an environment of their own: installs the wheel, and goes from
# nothing to an answer over HTTP. Nothing of the checkout is on any path.
#
# Usage: newcomer.sh UV PYTHON WHEEL FOLDER [CONSTRAINTS]
set -euo pipefail
uv=$1 python=$2 wheel=$3 folder=$4 constraints=${5:-}
stage() { printf '=== %s (%ss)\n' "$1" "$SECONDS"; }

stage "install"
cd "$folder"
"$uv" venv --quiet --python "$python" .venv
"$uv" pip install --quiet --python .venv/bin/python ${constraints:+--constraints "$constraints"} "feature-store[dagster,serve] @ file://$wheel"
export PATH="$folder/.venv/bin:$PATH"

stage "where it is"
python -c 'import feature_store, dagster_feature_store as dagster; print(*feature_store.__path__, *dagster.__path__, sep="\n")'
feature-store --version

stage "init"
feature-store init shop
cd shop
trap 'feature-store redis stop >/dev/null' EXIT

stage "validate"
dagster definitions validate

stage "materialize"
feature-store apply
feature-store materialize --all
feature-store get c07 customer_spending

stage "train"
feature-store training-set build buys_again
feature-store training-set verify buys_again

stage "serve"
port=$(python -c 'import socket; place = socket.create_server(("127.0.0.1", 0)); print(place.getsockname()[1])')
feature-store serve --port "$port" &
server=$!
trap 'kill $server 2>/dev/null; feature-store redis stop >/dev/null' EXIT
python - "$port" <<'PROGRAM'
import json, sys, time, urllib.error, urllib.request

body = json.dumps({"entity_ids": ["c07"], "features": ["customer_spending"]}).encode()
place = f"http://127.0.0.1:{sys.argv[1]}/v1/online-features"
request = urllib.request.Request(place, body, {"content-type": "application/json"})
deadline = time.monotonic() + 60
while True:
    try:
        print("answer", urllib.request.urlopen(request, timeout=10).read().decode())
        break
    except urllib.error.URLError as error:
        if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
            raise
        time.sleep(0.1)
PROGRAM
stage "done"
