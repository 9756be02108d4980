#!/bin/sh
# Every static check; all of them run, also when the first fails.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd)
export GOTOOLCHAIN=go1.27.4+auto
lint=$(tools/tool.sh golangci-lint)
status=0

echo "== Go: rules of .golangci.yml"
"$lint" run ./... || status=1
for module in tools $(find api clients cmd deploy keystore server -name go.mod -exec dirname {} ';'); do
	(cd "$module" && "$lint" run --config "$root/.golangci.yml" ./...) || status=1
done

echo "== Go: tests wait for what is meant; they sleep on the clock of testing/synctest alone"
for test in $(git grep -l 'time\.Sleep(' -- '*_test.go'); do
	if ! grep -q '"testing/synctest"' "$test"; then
		git grep -n 'time\.Sleep(' -- "$test"
		status=1
	fi
done

echo "== Go: cgo in keystore/pkcs11 alone"
if git grep -n '^import "C"\|^	"C"$' -- '*.go' ':!keystore/pkcs11'; then
	status=1
fi

echo "== Go: the API and the command line need no cgo"
CGO_ENABLED=0 go build -o /dev/null ./cmd/signet || status=1
CGO_ENABLED=0 go build ./api/... || status=1

echo "== contract: lint, format, compatibility"
tools/proto.sh lint || status=1

echo "== scripts"
for script in .ci/run tools/*.sh deploy/*/*.sh; do
	[ -e "$script" ] || continue
	case $(head -n 1 "$script") in
	*bash) bash -n "$script" || status=1 ;;
	*) sh -n "$script" || status=1 ;;
	esac
done
exit "$status"
