#!/usr/bin/env bash
# Run `theseus benchmark` as action.yml does, anywhere: reports into a folder, markdown to the job summary if there is one.
#
#   benchmarks/ci_gate.sh REPORTS CANDIDATE... --baseline MODEL --data DATA [--max-p50-ratio R ...]
#
# Exits as `theseus benchmark` does: 0 every gate passed, 2 the request is wrong, 3 a gate failed, 4 one is undecided,
# 130 interrupted. Reports of an earlier run in the folder are removed first.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "ci_gate.sh: $# arguments, at least 2 are needed: a folder for the reports, and what theseus benchmark takes" >&2
  exit 2
fi
if [[ -z "$1" || "$1" == -* ]] || [ -f "$1" ]; then
  echo "ci_gate.sh: ${1:-an empty name} is no folder for the reports; name one first, then what theseus benchmark takes" >&2
  exit 2
fi
reports=$1
shift
for word in "$@"; do
  for report in "$reports"/report.{json,md,html,xml}; do
    if [ "${word#--against=}" -ef "$report" ]; then
      echo "ci_gate.sh: $report is compared with, and would be removed; keep it outside of $reports" >&2
      exit 2
    fi
  done
done
if ! mkdir -p "$reports" || ! rm -f "$reports"/report.{json,md,html,xml}; then
  echo "ci_gate.sh: $reports takes no reports; name another folder" >&2
  exit 2
fi

theseus benchmark "$@" --report "$reports/report.json" --report "$reports/report.md" \
  --report "$reports/report.html" --report "$reports/report.xml" &
benchmark=$!
trap 'interrupted=1; kill -TERM "$benchmark" 2> /dev/null || true' INT TERM HUP  # a cancelled job ends what it began
interrupted=1
while [ -n "$interrupted" ]; do  # a signal ends the wait, and not yet the benchmark
  interrupted=
  code=0
  wait "$benchmark" || code=$?
done

if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$reports/report.md" ]; then
  cat "$reports/report.md" >> "$GITHUB_STEP_SUMMARY"
fi
exit "$code"
