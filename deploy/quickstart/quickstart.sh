#!/usr/bin/env bash
# The quick start: a demo service on this machine, a real release signed with it, and that signature verified offline.
#
#   make quickstart      set it up and run it through; run again, it starts from nothing again
#   make clean           stop it and remove it
#
# Everything lies in ./var (service, keys, passwords of the demo's people), dist/release-v0.1.0 (what is signed) and
# signatures/ (the signature). ./var is a demo: its PINs and passwords lie beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOTOOLCHAIN=go1.27.4+auto

readonly version=v0.1.0
readonly data=var bundle=dist/release-$version manifest=signatures/release-$version.json
readonly marker=$data/quickstart # holds what belongs to the quick start, so that nothing else is ever removed
readonly people=$data/people     # the one-time codes and passwords of the demo's people
export SIGNET_CONFIG_DIR=$PWD/$data/client PATH="$PWD/bin:$PATH"

bold=$(tput bold 2>/dev/null || :) plain=$(tput sgr0 2>/dev/null || :)
[[ -t 1 ]] || bold='' plain=''
began=$SECONDS

step() { printf '\n%s[%d/8] %s%s\n' "$bold" "$1" "$2" "$plain"; }
say() { printf '      %s\n' "$*"; }
die() { printf '\nquickstart: %s\n' "$*" >&2; exit 1; }

# show COMMAND... prints a command as one would type it, and runs it; with lines=N set, N lines of what it says.
show() {
	printf '\n    $'
	printf ' %s' "${@@Q}" | sed "s/'\([A-Za-z0-9_.,:=@%+/-]*\)'/\1/g"
	printf '\n'
	"$@" </dev/null 2>&1 | sed -n "1,${lines:-\$}s/^/      /p"
}

stop_server() {
	local pid
	pid=$(cat "$data/signetd.pid" 2>/dev/null) || return 0
	if [[ -r /proc/$pid/cmdline ]] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "signetd serve --config $data/signetd.yaml"; then
		kill "$pid"
		for ((i = 0; i < 400; i++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		! kill -0 "$pid" 2>/dev/null || die "the service (process $pid) does not stop; see $data/signetd.log"
	fi
	rm -f "$data/signetd.pid"
}

start_server() {
	signetd serve --config "$data/signetd.yaml" </dev/null >>"$data/signetd.log" 2>&1 &
	local pid=$!
	disown
	echo "$pid" >"$data/signetd.pid"
	for ((i = 0; i < 600; i++)); do
		if ! kill -0 "$pid" 2>/dev/null; then
			tail -n 20 "$data/signetd.log" >&2
			die "the service ended; the lines above are from $data/signetd.log"
		fi
		grep -q 'msg=serving' "$data/signetd.log" && return
		sleep 0.1
	done
	tail -n 20 "$data/signetd.log" >&2
	die "the service is not ready after a minute; the lines above are from $data/signetd.log"
}

# clean removes what an earlier run made, and nothing else.
clean() {
	if [[ -e $data && ! -e $marker ]]; then
		echo "$data was not made by the quick start: it stays" >&2
		return 1
	fi
	stop_server
	if [[ -e $manifest && -e $marker/manifest.sha256 ]] && sha256sum --status -c "$marker/manifest.sha256"; then
		rm -f "$manifest"
		rmdir signatures 2>/dev/null || :
	fi
	rm -rf "$data" "$bundle"
}

# secret FILE writes a random password.
secret() { (umask 077 && head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$1"); }

# free_port FIRST prints a port that nobody listens on.
free_port() {
	local port
	for ((port = $1; port < $1 + 100; port++)); do
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	die "no port from $1 to $(($1 + 99)) is free"
}

prepare() {
	step 1 "Building signetd and signet $version"
	[[ ! -e $data && ! -e $manifest ]] || clean || die "move $data away, or choose another checkout"
	[[ ! -e $manifest ]] || die "$manifest is there and not from an earlier quick start: move it away"
	make --no-print-directory build VERSION="$version" 2>&1 | sed 's/^/      /'
	say "$(signet version)"
}

init() {
	step 2 "Making the service: token, keys, certificates, ledger ($data)"
	mkdir -p "$marker" "$people"
	chmod 700 "$data" "$people"
	listen=127.0.0.1:$(free_port 8443)
	web=127.0.0.1:$(free_port "$((${listen##*:} + 1))")
	pages=$(free_port "$((${web##*:} + 1))")
	metrics=127.0.0.1:$(free_port 9464)
	show signetd init --data "$data" --environment demo --system-access closed --listen "$listen" --web "$web" --pages "127.0.0.1:$pages" --metrics "$metrics" --admin-user grace --admin-name "Grace Hopper"
}

serve() {
	step 3 "Starting it on $listen (TLS 1.3, gRPC); its log is $data/signetd.log"
	start_server
	say "SERVING, process $(cat "$data/signetd.pid"); metrics for Prometheus: http://$metrics/metrics"
	say "The ledger's checkpoint and tiles are read over HTTPS: https://$web/ledger/checkpoint"
	say "The signing pages, for browsers: https://localhost:$pages"
	show signetd hsm status --config "$data/signetd.yaml"
}

enrol() {
	step 4 "Enrolling people: each sets a password that nobody else knows"
	for person in grace ada max; do secret "$people/$person.password"; done
	local connect=(--server "$listen" --ca "$data/tls/server.pem")

	say "The administrator redeems the code that signetd init made, and logs in."
	show signet signer redeem "${connect[@]}" --user grace --code-file "$data/administrator.code" \
		--password-file "$people/grace.password" --accept-accountability
	show signet login --profile grace "${connect[@]}" --user grace --password-file "$people/grace.password"

	say "She enrols a signer and a release manager, each with the proof of their identity."
	show signet signer enroll --profile grace --user ada --name "Ada Lovelace" --title "QA Lead" --zone Europe/London --role signer \
		--proofing-method "passport seen in person" --proofing-reference DEMO-1 --code-out "$people/ada.code"
	show signet signer enroll --profile grace --user max --name "Max Miller" --title "Release Manager" --zone Europe/Berlin \
		--role release_manager --role auditor \
		--proofing-method "identity card seen in person" --proofing-reference DEMO-2 --code-out "$people/max.code"

	say "Both redeem their codes. Ada's key is made in the token: it cannot leave it, and the CA certifies it for her name."
	for person in ada max; do
		show signet signer redeem "${connect[@]}" --user "$person" --code-file "$people/$person.code" \
			--password-file "$people/$person.password" --accept-accountability
		show signet login --profile "$person" "${connect[@]}" --user "$person" --password-file "$people/$person.password"
	done
	say "Ada pins the trust file, so that what she signs is judged at once."
	lines=4 show signet trust add --profile ada "$data/signet-trust.json"
}

evidence() {
	step 5 "Making the evidence of this release candidate ($bundle)"
	local work=$data/evidence trace
	if [[ -n $(git status --porcelain 2>/dev/null) ]]; then
		say "note: the working tree has changes that are not in commit $commit, which the record will name"
	fi
	mkdir -p "$work" "$bundle/bin"
	cp bin/signet bin/signetd "$bundle/bin/"
	trace=$(tools/tool.sh trace)
	say "running the tests of api/: what verifies signatures decades from now"
	"$trace" test -stream "$work/api.jsonl" -- \
		go test -count=1 -timeout 10m -json -coverprofile "$work/coverage.out" ./api/... 2>&1 | sed 's/^/      /'
	"$trace" junit -o "$bundle/junit.xml" "$work/api.jsonl"
	go tool cover -html "$work/coverage.out" -o "$bundle/coverage.html"
	"$trace" index -revision "$commit" -json "$bundle/index.json" "$work/api.jsonl" | sed 's/^/      /'
	(cd "$bundle" && sha256sum bin/signet bin/signetd >SHA256SUMS)
	show signet bundle list "$bundle"
	show signet bundle digest "$bundle"
}

sign() {
	step 6 "The release manager makes the record, the signer signs it"
	local source=()
	[[ -z $commit ]] || source=(--repository https://github.com/signetd/signet --commit "$commit" --branch "$branch")
	show signet record create --profile max --bundle "$bundle" --type release --product signet --version "$version" \
		--title "Release candidate of the quick start" --approver ada "${source[@]}" \
		--role bin/signet=installer --role bin/signetd=installer --role junit.xml=junit_xml --role coverage.html=coverage_html \
		--role index.json=index_json --role SHA256SUMS=sha256sums
	local record
	record=$(signet record list --profile max --json | sed -n 's/.*"name": *"\(records\/[0-9a-f-]*\)".*/\1/p' | head -n 1)
	[[ -n $record ]] || die "the record is not in the list"
	say "Nothing is preselected: Ada states decision, meaning and reason, and proves who she is for this one signature."
	show signet sign "$record" --profile ada --bundle "$bundle" --decision approve --meaning release-approval \
		--reason "The tests of api/ passed, and the checksums are those of the build." \
		--user ada --password-file "$people/ada.password" --yes
	sha256sum "$manifest" >"$marker/manifest.sha256"
}

verify() {
	step 7 "Stopping the service, and verifying with nothing but the bundle, the manifest and the trust file"
	stop_server
	export SIGNET_PROFILE=auditor # who has never spoken to the service
	say "An auditor pins the trust file, having compared its SHA-256 with the one that the issuer publishes."
	show signet trust add "$data/signet-trust.json"
	show signet verify --bundle "$bundle" --manifest "$manifest"

	say "Now one byte of a copy is changed:"
	local copy=$data/changed code=0
	rm -rf "$copy" && cp -r "$bundle" "$copy"
	printf X | dd of="$copy/bin/signet" bs=1 seek=0 conv=notrunc status=none
	lines=3 show signet verify --bundle "$copy" --manifest "$manifest" || code=$?
	[[ $code -eq 10 ]] || die "a changed file must be found with exit code 10; this was $code"
	rm -rf "$copy"
	say "exit code $code: the content differs, and the file is named."
	show signetd ledger check --config "$data/signetd.yaml"
}

next() {
	step 8 "Done in $((SECONDS - began)) s. What next"
	cat <<EOF

    Start the service again, in a terminal of its own:
      bin/signetd serve --config $data/signetd.yaml
    and look around as Max, in another:
      export PATH="\$PWD/bin:\$PATH" SIGNET_CONFIG_DIR="\$PWD/$data/client" SIGNET_PROFILE=max
      signet login --user max --password-file $people/max.password
      signet ledger head
      signet ledger list
      curl --cacert $data/tls/server.pem https://$web/ledger/checkpoint

    Or sign in a browser as Ada, whose password is in $people/ada.password:
      https://localhost:$pages
    The browser warns once: the demo's certificate ($data/tls/server.pem) is its own.

    Verify on any other machine: copy $bundle, $manifest and
    $data/signet-trust.json there, and run signet verify as above.

    Documentation: README.md; signet help; signetd config print --config $data/signetd.yaml
    Remove all of it: make clean
EOF
}

case "${1:-run}" in
clean)
	clean || :
	exit 0
	;;
run) ;;
*) die "usage: quickstart.sh [run|clean]" ;;
esac

commit=$(git rev-parse HEAD 2>/dev/null || :)
branch=$(git rev-parse --abbrev-ref HEAD 2>/dev/null || :)
[[ $branch != HEAD ]] || branch=
trap 'code=$?; [[ $code -eq 0 ]] || { stop_server; printf "\nquickstart: stopped at the step above (exit code %s)\n" "$code" >&2; }' EXIT
prepare
init
serve
enrol
evidence
sign
verify
next
