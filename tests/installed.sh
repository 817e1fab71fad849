#!/bin/bash
# Installs a built wheel or sdist with the lowest or the newest versions that settings.ini allows, and uses it from an empty folder:
#   python -m build && tests/installed.sh 3.11 lowest dist/wattnb-*.whl
# The fourth argument names the extras: "demo" if it is left out, "" for the core alone; "demo,local" needs a compiler, and UV_TORCH_BACKEND=cpu spares CUDA. MODELS="extractive smollm2-135m" also runs the embedded model.
# Needs uv; ends with the versions that were used.
set -euo pipefail
python=$1 versions=$2 dist=$(realpath "$3") extras=${4-demo}
here=$(realpath "$(dirname "$0")/..") place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# uv resolves lowest versions for requirements that it is given, not for those of a package: they are given
"$python" - "$here/settings.ini" "$extras" > "$place/requirements.txt" <<'PY'
import configparser, sys
c = configparser.ConfigParser(delimiters=['='])
c.read(sys.argv[1])
for k in ['requirements', *(f'{e}_requirements' for e in sys.argv[2].split(',') if e)]: print(*c['DEFAULT'][k].split(), sep='\n')
PY
uv venv -q --python "$python" "$place/env"
resolution=highest; [ "$versions" = lowest ] && resolution=lowest-direct
wheels=(--only-binary :all:); [[ ",$extras," == *,local,* ]] && wheels=() # hnswlib has none
uv pip install -q --python "$place/env" --resolution "$resolution" "${wheels[@]}" -r "$place/requirements.txt"
uv pip install -q --python "$place/env" --no-deps "$dist"
uv pip check -q --python "$place/env"

export PATH="$place/env/bin:$PATH" WATTNB_PROGRESS=0 MPLBACKEND=agg PYTHONWARNINGS=ignore::DeprecationWarning
unset PYTHONPATH WATTNB_ROOT
mkdir "$place/empty" && cd "$place/empty"
wattnb --version
wattnb init . --demo > /dev/null
wattnb doctor > /dev/null
if [ -z "$extras" ]; then
    wattnb index --embedder none
    python -c "from wattnb.experiment import RunSettings, plan_run, run_all
for m in ('extractive', 'abstain'): run_all(plan_run(RunSettings(m, preset='words', env='here', limit=20)))"
else
    wattnb index
    for m in ${MODELS:-extractive abstain}; do wattnb run --model $m --env here --limit 20 > /dev/null; done
fi
wattnb results --env here
runs=$(wattnb results --env here --json | python -c "import json, sys; print(*sorted(r['run'] for r in json.load(sys.stdin)['runs']))")
wattnb compare $runs --env here > /dev/null
wattnb audit --env here > /dev/null
for r in $runs; do wattnb verify "$r" > /dev/null; wattnb bundle "$r" --output "$r.zip" > /dev/null; wattnb bundle --check "$r.zip" | sed -n 1p; done
if python -c 'import papermill, matplotlib' 2> /dev/null; then wattnb plots > /dev/null; wattnb report > /dev/null; fi
uv pip list -q --python "$place/env" | tail -n +3 | tr -s ' ' '=' | tr '\n' ' '
echo; echo "works: Python $(python -c 'import platform; print(platform.python_version())'), $versions versions, $(basename "$dist")${extras:+[$extras]}"
