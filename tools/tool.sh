#!/bin/sh
# Prints the path of a developer tool, building it first when it is not there yet.
#
#   tools/tool.sh buf | golangci-lint | protoc-gen-go | protoc-gen-go-grpc | trace
#
# Tools are pinned by modules of their own, so that who imports Signet's API does not carry them. The heavy ones take
# minutes to build; binaries therefore stay in the user's cache folder, under a name made of the hash of what they are
# built from. A changed pin gives another name, never a stale tool.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
export GOTOOLCHAIN=go1.27.4+auto GOFLAGS= GOWORK=off

case "${1:-}" in
buf) module=$here/buf package=github.com/bufbuild/buf/cmd/buf ;;
golangci-lint) module=$here/lint package=github.com/golangci/golangci-lint/v2/cmd/golangci-lint ;;
protoc-gen-go) module=$here package=google.golang.org/protobuf/cmd/protoc-gen-go ;;
protoc-gen-go-grpc) module=$here package=google.golang.org/grpc/cmd/protoc-gen-go-grpc ;;
trace) module=$here package=./trace ;;
*)
	echo "usage: tools/tool.sh buf|golangci-lint|protoc-gen-go|protoc-gen-go-grpc|trace" >&2
	exit 2
	;;
esac

sources="$module/go.mod $module/go.sum"
[ "$1" != trace ] || sources="$sources $(find "$here/trace" -type f | LC_ALL=C sort)"
# shellcheck disable=SC2086 # a list of paths
key=$({
	go env GOVERSION GOOS GOARCH
	cat $sources
} | sha256sum | cut -c1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/signet/tools/$key
if [ ! -x "$folder/$1" ]; then
	echo "building $1 (once; it stays in $folder)" >&2
	mkdir -p "$folder"
	new=$folder/.$1.$$
	trap 'rm -f "$new"' EXIT
	(cd "$module" && nice -n 10 go build -trimpath -o "$new" "$package") >&2
	mv "$new" "$folder/$1"
fi
echo "$folder/$1"
