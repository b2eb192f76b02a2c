#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image: Python and what the grader needs.
set -euo pipefail
AUTOGRADER="${AUTOGRADER:-/autograder}"
PACKAGES=(numpy rich typer) # for Keras questions also: keras tensorflow-cpu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq python3 python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: choose Ubuntu 24.04")'
python3 -m venv "$AUTOGRADER/venv"
"$AUTOGRADER/venv/bin/python" -m pip install --quiet --constraint "$AUTOGRADER/source/requirements.txt" "${PACKAGES[@]}"
