#!/usr/bin/env bash
# Run `theseus benchmark` as action.yml does, anywhere: reports into a folder, markdown to the job summary if there is one.
#
#   benchmarks/ci_gate.sh REPORTS CANDIDATE... --baseline MODEL --data DATA [--max-p50-ratio R ...]
#
# Exits as `theseus benchmark` does: 0 every gate passed, 2 the request is wrong, 3 a gate failed, 4 one is undecided.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "ci_gate.sh: $# arguments, at least 2 are needed: a folder for the reports, and what theseus benchmark takes" >&2
  exit 2
fi
reports=$1
shift
mkdir -p "$reports"

code=0
theseus benchmark "$@" --report "$reports/report.json" --report "$reports/report.md" \
  --report "$reports/report.html" --report "$reports/report.xml" || code=$?

# With any other code nothing was measured, and a report in the folder is one of an earlier run.
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [[ "$code" =~ ^[034]$ ]]; then
  cat "$reports/report.md" >> "$GITHUB_STEP_SUMMARY"
fi
exit "$code"
