#!/bin/sh
# What is done with the contract in proto/.
#
#   tools/proto.sh generate    writes api/signet/v1 anew
#   tools/proto.sh check       fails when what is committed there is not what the contract gives
#   tools/proto.sh lint        lint and format of the contract, and whether it breaks what main promises
#   tools/proto.sh format      formats the contract in place
#
# BREAKING_AGAINST names another revision to compare with (default: origin/main, or else main).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
export GOTOOLCHAIN=go1.27.4+auto GOFLAGS= GOWORK=off

buf=$("$here/tool.sh" buf)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# The rules of protovalidate come with its Go module. A copy of them beside ours makes a workspace that needs no network.
protovalidate() {
	module=$(cd "$here" && go mod download -json github.com/bufbuild/protovalidate | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	[ -n "$module" ] || { echo "the Go module of protovalidate cannot be had; see the lines above" >&2; exit 1; }
	mkdir -p "$1/.buf/protovalidate/buf/validate"
	cp -f "$module/proto/protovalidate/buf/validate/validate.proto" "$1/.buf/protovalidate/buf/validate/"
	chmod u+w "$1/.buf/protovalidate/buf/validate/validate.proto"
}

# generate FOLDER writes the generated code below FOLDER.
generate() {
	mkdir -p "$scratch/bin"
	for plugin in protoc-gen-go protoc-gen-go-grpc; do
		ln -sf "$("$here/tool.sh" "$plugin")" "$scratch/bin/$plugin"
	done
	PATH=$scratch/bin:$PATH "$buf" generate --output "$1"
}

protovalidate .
case "${1:-}" in
generate)
	generate "$scratch/out"
	mkdir -p api/signet/v1
	for old in api/signet/v1/*.go; do
		[ -e "$scratch/out/$old" ] || rm -f "$old"
	done
	cp -f "$scratch/out/api/signet/v1/"*.go api/signet/v1/
	;;
check)
	generate "$scratch/out"
	if ! diff -ru api/signet/v1 "$scratch/out/api/signet/v1"; then
		echo "api/signet/v1 is stale: run \`make generate\` and commit what changes" >&2
		exit 1
	fi
	echo "api/signet/v1 is what the contract gives"
	;;
lint)
	"$buf" lint proto
	"$buf" format -d --exit-code proto
	against=${BREAKING_AGAINST:-}
	for revision in origin/main main; do
		[ -n "$against" ] || ! git rev-parse --verify -q "$revision^{commit}" >/dev/null || against=$revision
	done
	if [ -z "$against" ] || ! git cat-file -e "$against:proto" 2>/dev/null || ! git cat-file -e "$against:buf.yaml" 2>/dev/null; then
		echo "no contract on main to compare with: breaking changes not looked for"
		exit 0
	fi
	mkdir "$scratch/against"
	git archive "$against" proto buf.yaml | tar -x -C "$scratch/against"
	protovalidate "$scratch/against"
	(cd "$scratch/against" && "$buf" build proto -o "$scratch/against.binpb")
	"$buf" breaking proto --against "$scratch/against.binpb"
	echo "the contract breaks nothing of $against"
	;;
format) "$buf" format -w proto ;;
*)
	echo "usage: tools/proto.sh generate|check|lint|format" >&2
	exit 2
	;;
esac
