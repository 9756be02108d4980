#!/bin/sh
# Fuzzes every target of the main module, one after the other: tools/fuzz.sh [TIME], 30s each by default.
# What it finds lies in the package's testdata/fuzz and fails `make test` from then on: commit it with the fix.
set -eu

cd "$(dirname "$0")/.."
time=${1:-30s}
status=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || :); do
		echo "== $package $target ($time)"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || status=1
	done
done
exit "$status"
