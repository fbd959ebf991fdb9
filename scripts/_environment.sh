# Makes the virtual environment that the scripts of this directory run in; sourced, never run.
#
# After `prepare_environment`, $ROOT is the repository, $PYTHON the environment's interpreter, and its directory is
# first on PATH. The environment is rebuilt only when pyproject.toml changed since it was made.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Flagstaff needs Python 3.11 or newer with its venv module; none was found on PATH." >&2
    echo "On Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    return 1
}

prepare_environment() {
    local python stamp wanted
    stamp="$VENV/flagstaff.stamp"
    wanted="$(cksum <"$ROOT/pyproject.toml")"
    if [ ! -x "$PYTHON" ]; then
        python="$(find_python)" || return 1
        echo "Creating $VENV with $python" >&2
        "$python" -m venv --clear "$VENV" || return 1
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing Flagstaff with its development tools into $VENV" >&2
        "$PYTHON" -m pip install --quiet --upgrade pip >&2 || return 1
        "$PYTHON" -m pip install --quiet --editable "$ROOT" --group "$ROOT/pyproject.toml:dev" >&2 || return 1
        printf '%s\n' "$wanted" >"$stamp"
    fi
    export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV"
}
