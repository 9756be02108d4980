// Package rfc3161 encodes, parses, verifies and issues time-stamps: RFC 3161 with RFC 5816, over CMS (RFC 5652).
//
// # The problem
//
// A time-stamp token says that some bytes existed at a time, in the words of somebody who is trusted to read a clock.
// Tokens are read for decades, by people who have nothing but the token and a pinned root certificate. The formats
// below it (BER, CMS, X.509) allow one token to be written in many ways, and the common readers of them accept more than they check: a
// signing certificate whose hash does not fit, bytes that nobody signed, nesting that overflows the stack. This package
// reads one narrow profile, in which no bit of a token can be flipped without its being refused.
//
// That does not make a token unique. Anybody can write a sound one anew in the places that no signature covers: leave out or add certificates of
// the chain, turn an ECDSA signature (r, s) into (r, n-s), and, where Strict is not set, order certificates otherwise or write NULL as the digest
// algorithms' parameters. It then proves the same. Who needs the very bytes binds their digest, as the entry of a signature in the ledger does.
//
// # The format
//
// A token is a CMS ContentInfo in DER, 64 KiB at the most ([MaxToken]):
//
//   - SignedData version 3, one digest algorithm, content type id-ct-TSTInfo, no CRLs, one signer;
//   - the signer is named by issuer and serial number; it has signed attributes in the order of DER, each with one value,
//     among them content-type, message-digest and signing-certificate-v2 (ESSCertIDv2, RFC 5816); it has no unsigned attributes;
//   - signatures: ECDSA over P-256, P-384 or P-521, RSA PKCS #1 v1.5 and PSS of 2,048 to 8,192 bits, Ed25519 (RFC 8419), with
//     SHA-256, SHA-384 or SHA-512. Algorithm identifiers are compared whole, parameters included; the hash of the signature
//     is the digest algorithm of the signer and the one digest algorithm of the SignedData;
//   - TSTInfo version 1, an imprint of SHA-256, SHA-384 or SHA-512 of the right length, a serial number of 160 bits at the most
//     that is not negative, genTime in UTC with Z and without trailing zeros, no critical extension;
//   - certificates, if there are some, hold the signer's, and nothing that is not part of its chain to the root that the caller
//     pinned. (With a token that carries a cross-signed root, pin the root that signed that one.)
//
// Before anything parses, a check in one pass refuses what is not DER: indefinite or overlong lengths, trailing bytes,
// nesting deeper than 32, Booleans other than 00 and FF, overlong integers and object identifiers, padding bits that are set.
//
// The signer's certificate is not a CA's, has the one extended key usage timeStamping, critical, and a key usage; its
// SHA-256 (384, 512) is the one in ESSCertIDv2; it and its chain hold at genTime.
//
// # Our own tokens and others'
//
// [Issuer] writes a narrower profile, and [VerifyOptions].Strict demands it: genTime in milliseconds, an accuracy of one second at
// the most, `ordering` false, key usage digitalSignature alone and critical, ESSCertIDv2 with SHA-256 and nothing else in it, certificates in the
// order of DER, and no further attribute, extension or name. Tokens of other authorities (as `openssl ts` and the public services write them) are
// allowed, where Strict is not set: no accuracy or no sub-seconds (they count as ±1 s, see [Token].Accuracy), `ordering` true,
// contentCommitment as key usage beside or instead of digitalSignature, further signed attributes, extensions that are not critical, a `tsa` name (it must be one of
// the certificate's), certificates in any order. The old signing-certificate attribute (ESSCertID, SHA-1, RFC 2634) is never looked at: it proves nothing
// that ESSCertIDv2 does not, and alone it is not enough. genTime does not depend on a signing-time attribute, which is not looked at either.
//
// A genTime with the milliseconds 000 is written without a fraction, as DER demands, and cannot be told from one of a clock that counts
// whole seconds: it counts as ±1 s too.
//
// # Use
//
//	token, err := rfc3161.Parse(der)
//	leaf, err := token.Verify(rfc3161.VerifyOptions{Hash: crypto.SHA256, Imprint: digest[:], Roots: roots})
//	// token.GenTime ± token.Accuracy is the time; nothing of the token may be used before Verify has succeeded.
//
// A client asks with [Request.Encode], reads the answer with [ParseResponse] and holds it against its question with [Token.Answers].
// A server reads with [ParseRequest], signs with [Issuer.Issue] and answers with [EncodeResponse] or [EncodeRefusal].
//
// Compatibility: a token that verified goes on verifying with the same options. What is refused today may be
// accepted by a later version only by an option that says so.
package rfc3161
