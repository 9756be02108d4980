// Package exchange writes signatures in the forms of others, so that nobody needs our software to check them.
//
// # The problem
//
// A signature that one program alone can check is worth what that program is worth. A statement of Signet is an in-toto Statement in a
// DSSE envelope, its signature is an ordinary one by a certificate's key, and its time is an RFC 3161 token. So each of the usual tools
// can check it, once it is written in the form that the tool reads.
//
// # The forms
//
//   - [DSSE]: the envelope alone (https://github.com/secure-systems-lab/dsse), for in-toto tools.
//   - [Sigstore]: a Sigstore bundle v0.3, with the certificate and the time-stamps, and [TrustedRoot], the trusted root that goes with it: for
//     cosign and the Sigstore libraries.
//   - [OpenSSL]: a folder with everything and a verify.sh that uses openssl and sha256sum.
//   - [Summary]: a SLSA Verification Summary Attestation (https://slsa.dev/spec/v1.1/verification_summary): what a verifier has found, for
//     tools that decide by it whether to deploy.
//
// # What they leave out
//
// None of these tools knows the approval policy, the ledger or the witnesses, and none asks whether a later signature took this one back. They
// say: this key, certified for this person, signed these bytes, and it was before that time. `signet verify` says the rest.
//
// All forms but the summary are functions of the manifest and the trust file alone: the same input gives the same bytes. The trust file is an
// argument of its own, because a key inside a manifest is never trusted by itself.
package exchange
