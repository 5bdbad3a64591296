#!/bin/sh
# The article's four systems on the stand-in, both prompts side by side on one card: minutes.
# sh tests/gpu/reproduce.sh FOLDER [OPTION...]: PROMPT.jsonl and PROMPT.txt there; keep the lines in fixtures/measured.
set -eu
: "${PYTHON:=python3}"
export PYTHONPATH="$PWD" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
out=$1 work=$(mktemp -d)
shift
for prompt in ours article; do
  "$PYTHON" -m vlcheck reproduce --standin fixtures/standin --prompt "$prompt" --output "$work/$prompt" --offline "$@" \
    >"$out/$prompt.txt" 2>&1 &
done
wait
for prompt in ours article; do
  cat "$out/$prompt.txt"
  cp "$work/$prompt/reproduction.jsonl" "$out/$prompt.jsonl"
done
