// Package manifest is what outlives the signing service: the record that a signature is about, the statement that a signer
// signs, the manifest that carries both with every proof, and the trust file that a verifier pins. It defines their types,
// their bytes and their rules, and judges no signature: that is api/verify.
//
// # The problem
//
// A signature must be readable decades later without the program that made it, by people and by programs that were
// written from the text below alone. So each of the four formats has one encoding for each value, names its version,
// and is read strictly: unknown and missing members, null, other layouts (where a layout is prescribed), numbers that
// are not integers, and data after the end are refused. Nobody can hide anything in a manifest, and two readers never
// read two things out of one.
//
// # Formats
//
// FORMAT.md beside this file is the whole specification, for who writes a verifier of their own, with a worked example; schema/ has JSON schemas.
//
//   - signet-record/v1 ([Record]): one event, what it is about, its bundle, policy and system. The record digest is
//     the SHA-256 of its canonical form.
//   - the statement ([Statement]): an in-toto Statement v1 in canonical JSON, with the predicate type [PredicateType]. The
//     signature is DSSE: it covers [PAE] of the canonical bytes.
//   - application/vnd.signet.manifest.v1+json ([Manifest]): indented by two spaces, keys sorted, one line feed at the end.
//   - application/vnd.signet.trust.v1+json ([Trust]): the same JSON in any layout.
//
// Bodies of ledger entries that a verifier reads ([SignatureCreated], [SignerEnrolled], [ServiceEnrolled],
// [SignerRevoked], [RecordSuperseded]) are defined here too.
//
// # Text
//
// What is printed as a name (printed name, title, organisation, product) is UTF-8 in NFC and holds only graphic
// characters of the Unicode version of this program's Go release, single spaces inside, and the two joiners (U+200C,
// U+200D) that some scripts need: no control, bidirectional, invisible or unassigned characters, so that no two names
// look alike because of what cannot be seen. Free text (reason, meaning, statement) is UTF-8, not normalised, for it is
// the signer's own; it may hold line feeds, and neither other control characters nor those that change the direction of
// text. Ids are lower-case ASCII.
//
// # Bounds
//
// A manifest has 64 MiB at the most, 1,000 signatures, 16 certificates and 8 time-stamps a signature, 64 KiB a token,
// 65,535 bytes an entry, 63 hashes a proof; a statement 1 MiB.
//
// # Compatibility
//
// What these readers accept is accepted for ever; the canonical bytes of a value never change. A change of shape gets a
// new version in its name and readers of its own.
package manifest
