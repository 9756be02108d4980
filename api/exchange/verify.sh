#!/bin/sh
# Checks the signatures of this folder with openssl and sha256sum, and, given the folder of the bundle, its files.
#
#   sh verify.sh [BUNDLE-FOLDER]
#
# It shows: each statement was signed by the key of its certificate; a root in signer-roots.pem certified that key for the signer; the signature
# is older than its time-stamp, which a root in time-roots.pem vouches for; the statement names these very documents and files; and, where there
# are revocation lists, that no certificate was revoked before the signature. What was revoked later stands, and is said. Compare the
# two root files with those that you have got in another way. It does not show that the approval policy is satisfied, that no later signature
# took one back, that nothing was added to the bundle, nor where the signatures stand in the ledger: `signet verify` does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1" >&2; exit 1; }
sum() { sha256sum < "$1" | cut -d ' ' -f 1; }

# not_revoked CERTIFICATE AT WHAT: no list of its CA may say that it was revoked at AT (seconds since 1970) or before. openssl verify -crl_check would
# refuse what was revoked later, too.
not_revoked() {
	serial=$(openssl x509 -in "$1" -noout -serial | cut -d = -f 2)
	for list in "$here"/revocation-*.pem; do
		[ -f "$list" ] || continue
		issuer=$(openssl crl -in "$list" -noout -hash 2> /dev/null) || fail "$(basename "$list") cannot be read"
		[ "$issuer" = "$(openssl x509 -in "$1" -noout -issuer_hash)" ] || continue
		openssl crl -in "$list" -noout -CAfile "$here/signer-roots.pem" 2>&1 | grep -q '^verify OK$' ||
			openssl crl -in "$list" -noout -CAfile "$here/time-roots.pem" 2>&1 | grep -q '^verify OK$' ||
			fail "$(basename "$list") is not signed by a root"
		revoked=$(openssl crl -in "$list" -noout -text | sed -n "/^ *Serial Number: 0*$serial\$/{n;s/^ *Revocation Date: //p;}")
		made=$(openssl crl -in "$list" -noout -lastupdate | cut -d = -f 2)
		[ -n "$revoked" ] || [ "$(date -u -d "$made" +%s)" -ge "$2" ] || echo "$3: $(basename "$list") is older than the signature, and does not cover it"
		[ -n "$revoked" ] || continue
		[ "$(date -u -d "$revoked" +%s)" -gt "$2" ] || fail "$3 was revoked on $revoked, before the signature was made"
		echo "$3 was revoked on $revoked, after the signature was made, which stands"
	done
}

record=$(sum "$here/record.json")
bundle=
[ ! -f "$here/bundle.json" ] || bundle=$(sum "$here/bundle.json")

checked=0
for folder in "$here"/[0-9]*/; do
	n=$(basename "$folder")
	read -r algorithm at time < "$folder/parameters"

	# What was signed: the DSSE pre-authentication encoding of the statement.
	printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < "$folder/statement.json")" > "$work/pae"
	cat "$folder/statement.json" >> "$work/pae"
	openssl x509 -in "$folder/signer.pem" -noout -pubkey > "$work/key.pem"
	case $algorithm in
	ecdsa-p256-sha256) openssl dgst -sha256 -verify "$work/key.pem" -signature "$folder/signature.bin" "$work/pae" ;;
	ecdsa-p384-sha384) openssl dgst -sha384 -verify "$work/key.pem" -signature "$folder/signature.bin" "$work/pae" ;;
	ecdsa-p521-sha512) openssl dgst -sha512 -verify "$work/key.pem" -signature "$folder/signature.bin" "$work/pae" ;;
	rsa-pss-sha256) openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -verify "$work/key.pem" -signature "$folder/signature.bin" "$work/pae" ;;
	ed25519) openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$work/pae" -sigfile "$folder/signature.bin" ;;
	*) fail "signature $n: unknown algorithm $algorithm" ;;
	esac > "$work/out" 2>&1 || { cat "$work/out" >&2; fail "signature $n does not verify"; }

	# The time: each token over the signature, and the time that the certificate is judged at is that of the first.
	for token in "$folder"/token-*.der; do
		openssl ts -verify -token_in -in "$token" -data "$folder/signature.bin" -CAfile "$here/time-roots.pem" -attime "$at" > "$work/out" 2>&1 ||
			{ cat "$work/out" >&2; fail "signature $n: $(basename "$token") does not verify"; }
	done
	openssl ts -reply -token_in -in "$folder/token-1.der" -token_out -text > "$work/token" 2>/dev/null
	stamped=$(sed -n 's/^Time stamp: \([^.]*[0-9]\)\(\.[0-9]*\)\{0,1\} \(.* GMT\)$/\1 \3/p' "$work/token")
	[ "$(date -u -d "$stamped" +%s)" = "$at" ] || fail "signature $n: its time-stamp says $stamped, and not $time"

	# Who: the certificate, at that time.
	openssl verify -attime "$at" -purpose any -CAfile "$here/signer-roots.pem" -untrusted "$folder/chain.pem" "$folder/signer.pem" > "$work/out" 2>&1 ||
		{ cat "$work/out" >&2; fail "signature $n: no root in signer-roots.pem vouches for the certificate at $time"; }

	# Whether one of them was revoked by then.
	not_revoked "$folder/signer.pem" "$at" "signature $n: the signer's certificate"
	openssl pkcs7 -inform DER -in "$folder/token-1.der" -print_certs -out "$work/authority.pem"
	not_revoked "$work/authority.pem" "$at" "signature $n: the time-stamping certificate"

	# About what.
	grep -q "\"sha256\":\"$record\"" "$folder/statement.json" || fail "signature $n is about another record"
	[ -z "$bundle" ] || grep -q "\"sha256\":\"$bundle\"" "$folder/statement.json" || fail "signature $n is about another bundle"
	checked=$((checked + 1))
	echo "signature $n holds: $(openssl x509 -in "$folder/signer.pem" -noout -subject -nameopt RFC2253,utf8,-esc_msb), $time"
done
[ "$checked" -gt 0 ] || fail "there is no signature"

if [ -n "$bundle" ] && [ $# -gt 0 ]; then
	# files.sha256 is a convenience: what counts is the signed document.
	while IFS= read -r line; do
		grep -qF "\"sha256\":\"${line%% *}\"" "$here/bundle.json" || fail "files.sha256 lists what bundle.json does not"
	done < "$here/files.sha256"
	[ "$(wc -l < "$here/files.sha256")" -eq "$(grep -o '"sha256":"' "$here/bundle.json" | wc -l)" ] || fail "files.sha256 is not complete"
	(cd "$1" && sha256sum --check --strict --quiet "$here/files.sha256") || fail "files differ from what was signed"
	echo "all files are as they were signed"
fi
echo "OK: $checked signatures hold"
