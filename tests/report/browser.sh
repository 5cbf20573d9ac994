#!/bin/sh
# The report in headless Chromium. Installs Debian's chromium and chromium-driver where apt can; where they cannot be
# had, says so and runs nothing. CHROMIUM names another executable, SCREENSHOTS the folder for pictures
# of the page.
set -u
PYTHON=${PYTHON:-python3}

not_run() {
    echo "test-browser: NOT RUN: $1" >&2
    exit 0
}

have_browser() {
    command -v "${CHROMIUM:-chromium}" >/dev/null && command -v chromedriver >/dev/null
}

if ! have_browser; then
    command -v apt-get >/dev/null || not_run "chromium and chromedriver are not installed, and there is no apt to install them"
    [ "$(id -u)" = 0 ] || not_run "chromium and chromedriver are not installed; as root: apt-get install chromium chromium-driver"
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver; } >/dev/null ||
        not_run "apt-get could not install chromium and chromium-driver"
    have_browser || not_run "apt-get installed no chromium and chromedriver"
fi
"$PYTHON" -c 'import selenium' 2>/dev/null || "$PYTHON" -m pip install --quiet 'selenium>=4.20' ||
    not_run "selenium could not be installed"

mkdir -p examples/out
export SCREENSHOTS="${SCREENSHOTS:-examples/out}"
exec "$PYTHON" -m pytest -q -m browser tests/report/test_browser.py
