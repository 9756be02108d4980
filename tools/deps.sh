#!/bin/sh
# Installs what building and testing need beside Go and git: SoftHSM2 (the PKCS#11 token of tests and demos), a C
# compiler (for the one package that uses cgo), and OpenSSL, which the tests hold our certificates and time-stamps against; python3
# and jq, for the second verifier and the commands of the README.
# With "test": the PKCS#11 modules of NSS and openCryptoki as well, on which the tests of the key store run, too, pkcs11-tool, which
# the runbooks use, pdftotext, which reads our PDFs, Chromium, in which the signing pages are tested, curl, and chrony, which tells how
# well a clock is kept.
# Does nothing where they are there; asks for sudo only where it must.
set -eu

missing=
found=
for module in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so \
	/usr/lib64/pkcs11/libsofthsm2.so /usr/lib64/softhsm/libsofthsm.so; do
	[ ! -e "$module" ] || found=$module
done
[ -n "$found" ] || missing="$missing softhsm2"
if ! { command -v "${CC:-gcc}" && [ -e /usr/include/stdio.h ]; } >/dev/null 2>&1; then
	missing="$missing gcc libc6-dev"
fi
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
command -v python3 >/dev/null 2>&1 || missing="$missing python3" # the tests of api/, which the quick start runs, too, hold two verifiers
command -v jq >/dev/null 2>&1 || missing="$missing jq"           # against each other, and the README's shell against both
if [ "${1:-}" = test ]; then
	present() { [ -e "$1" ]; }
	present /usr/lib/*/libsoftokn3.so || present /usr/lib64/libsoftokn3.so || missing="$missing libnss3"
	present /usr/lib/*/pkcs11/libopencryptoki.so || present /usr/lib64/pkcs11/libopencryptoki.so || missing="$missing opencryptoki"
	command -v pkcs11-tool >/dev/null 2>&1 || missing="$missing opensc"
	command -v pdftotext >/dev/null 2>&1 || missing="$missing poppler-utils"
	command -v curl >/dev/null 2>&1 || missing="$missing curl"
	[ -x /usr/sbin/chronyd ] || command -v chronyd >/dev/null 2>&1 || missing="$missing chrony"
	command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing:$missing. This is not Debian or Ubuntu: install SoftHSM2 and a C compiler by your system's own means." >&2
	exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "missing:$missing. Run as root: apt-get install$missing" >&2
		exit 1
	fi
	as_root=sudo
	echo "installing$missing with apt-get; sudo may ask for your password" >&2
else
	echo "installing$missing with apt-get" >&2
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # lists of words
{
	$as_root apt-get update -qq
	$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
} >&2
