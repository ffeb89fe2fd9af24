# What the scripts share: a Python, an environment from the lock, and words on what is being done.
# Read it with `.` from a script that did `set -eu`; POSIX sh, so that dash and macOS's sh both run it.

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint:  %s\n' "$2" >&2
    exit 1
}

# The folder of the repository, whatever the current one is. Scripts are links-free files in scripts/.
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
VENV="$ROOT/.venv"
PY="$VENV/bin/python"
# Marks in the environment: which locks are in it, and who is (or was, when cut off) filling it.
BUSY="$VENV/.installing"
# Trust what this machine trusts, as pip does: a company's own certificate authority, for example.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"

python_is_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for name in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if python_is_enough "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    die "no Python 3.11 or newer was found" \
        "Install one (Debian/Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or name it: PYTHON=/path/to/python scripts/demo"
}

make_venv() {
    python=$(find_python) || exit 1
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        die "$python has no venv module" "Install it: apt-get install python3-venv"
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear "$VENV" || die "$python -m venv failed" "On Debian/Ubuntu: apt-get install python3-venv"
}

# What an environment must have been made from to be used as it is: the lock, the project's own
# metadata, and its place (an environment that was moved with its folder does not work).
fingerprint() {
    "$PY" - "$ROOT" "$1" <<'EOF'
import hashlib, pathlib, sys
root, lock = sys.argv[1:]
parts = [pathlib.Path(root, name).read_bytes() for name in (lock, "pyproject.toml")]
print(hashlib.sha256(b"\0".join([root.encode(), sys.version.encode(), *parts])).hexdigest())
EOF
}

# The lines of one package in a lock, with its hashes.
locked() {
    awk -v name="$2" '/^[^ #]/ { on = index($0, name "==") == 1 } on && !/^ *#/' "$ROOT/$1"
}

fill_venv() {
    lock=$1
    printf '%s\n' "$$" >"$BUSY"
    if [ ! -x "$VENV/bin/uv" ]; then
        say "fetching the installer (uv, with the lock's hashes)"
        locked "$lock" uv >"$VENV/uv.txt"
        "$PY" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$VENV/uv.txt"
    fi
    say "installing $(grep -c '==' "$ROOT/$lock") packages from $lock (hashes checked)"
    "$VENV/bin/uv" pip install --quiet --python "$PY" --compile-bytecode --require-hashes -r "$ROOT/$lock"
    say "installing tailrace itself from this folder"
    "$VENV/bin/uv" pip install --quiet --python "$PY" --no-build-isolation --no-deps --offline -e "$ROOT"
    rm -f "$BUSY"
}

# setup LOCK: an environment in .venv that holds LOCK (requirements.lock or requirements-dev.lock).
# The second time it is only a comparison of hashes, without any network.
setup() {
    lock=$1
    stamp="$VENV/.has-$lock"
    if [ -f "$BUSY" ] && kill -0 "$(cat "$BUSY")" 2>/dev/null; then
        die "another script (process $(cat "$BUSY")) is installing into .venv" "Wait for it to end, then run this again."
    fi
    if [ -f "$BUSY" ]; then
        say "an earlier installation was cut off: starting .venv afresh"
        make_venv
    elif ! python_is_enough "$PY" || ! "$PY" -m pip --version >/dev/null 2>&1; then
        make_venv
    fi
    wanted=$(fingerprint "$lock")
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    fill_venv "$lock"
    printf '%s\n' "$wanted" >"$stamp"
    # The development lock holds everything of the other one, in the same versions.
    if [ "$lock" = requirements-dev.lock ]; then
        fingerprint requirements.lock >"$VENV/.has-requirements.lock"
    fi
}
