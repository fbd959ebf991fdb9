# Makes the virtual environment that the scripts of this directory run in; sourced, never run.
#
# After `prepare_environment`, $ROOT is the repository, $PYTHON the environment's interpreter, and the environment's
# commands are first on PATH. It is installed again only when pyproject.toml changed since the last time.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

prepare_environment() {
    local stamp wanted
    stamp="$VENV/flagstaff.stamp"
    wanted="$(cksum <"$ROOT/pyproject.toml")
$ROOT"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || ! "$PYTHON" -c '' 2>/dev/null; then
        create_environment "$stamp" && install_project || return 1
        printf '%s\n' "$wanted" >"$stamp"
    fi
    export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV"
}

create_environment() {
    local python
    # One that was moved or copied with its directory has commands that point to the old place: made anew.
    if [ "$(tail -n 1 "$1" 2>/dev/null)" = "$ROOT" ] && "$PYTHON" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python="$(find_python)" || return 1
    echo "Creating $VENV with $python" >&2
    "$python" -m venv --clear "$VENV"
}

find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        # Asked, not only looked for: a name on PATH may be a shim without its Python, or a Python without venv.
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Flagstaff needs Python 3.11 or newer with its venv module, and PATH has none." >&2
    echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2
    return 1
}

install_project() {
    echo "Installing Flagstaff and its development tools into $VENV" >&2
    "$PYTHON" -m pip install --quiet --upgrade pip >&2 &&
        "$PYTHON" -m pip install --quiet --editable "$ROOT" --group "$ROOT/pyproject.toml:dev" >&2
}

# On a bare CI machine, brings what the tests start besides Python: Node, a JDK, Maven, a browser, PostgreSQL,
# Prometheus, strace and curl. Elsewhere it
# does nothing, and the tests that need an absent one say so and are skipped.
prepare_machine() {
    local wanted=()
    if [ "${CI:-}" != true ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        return 0
    fi
    find_python >/dev/null 2>&1 || wanted+=(python3 python3-venv)
    command -v node >/dev/null || wanted+=(nodejs)
    command -v npm >/dev/null || wanted+=(npm)
    command -v javac >/dev/null || wanted+=(default-jdk-headless)
    command -v mvn >/dev/null || wanted+=(maven)
    command -v go >/dev/null || wanted+=(golang-go)
    command -v chromium >/dev/null || wanted+=(chromium)
    compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || wanted+=(postgresql)
    command -v prometheus >/dev/null || wanted+=(prometheus)
    command -v strace >/dev/null || wanted+=(strace)
    command -v curl >/dev/null || wanted+=(curl)
    if [ "${#wanted[@]}" -gt 0 ]; then
        echo "Installing ${wanted[*]}" >&2
        apt_get update && apt_get install --yes --no-install-recommends "${wanted[@]}" ||
            echo "apt-get could not install them; the tests that need them will be skipped" >&2
    fi
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# The files of scripts/ that are Python but have no suffix, by which ruff and mypy would find them.
python_scripts() {
    (cd "$ROOT" && grep -lE '^#!.*python' scripts/* 2>/dev/null | grep -v '\.') || true
}
