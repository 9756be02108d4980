// Package export writes and verifies a range of a ledger as one file that needs nothing else: every entry, what is attached to the
// entries, and the proof that they stand in the ledger whose head a signed checkpoint names. It opens no socket and asks no server.
//
// # The problem
//
// An auditor takes a ledger away: all of it, or the entries of a year. What they take must prove itself in decades, on a machine without a
// network, with this package, with another program written from this text, or by hand with sha256sum and jq. And it must be written
// and read as a stream, in memory that does not grow with the ledger.
//
// # The format: signet-export/v1
//
// An export is a POSIX tar archive (ustar). It holds the entries [start, end) of a ledger under a checkpoint of a size of at least end.
// Its members are regular files in this order, and no other is there:
//
//	export.json                         what this is
//	checkpoint                          the signed checkpoint
//	proof.json                          the hashes beside the range
//	entries/<first>.jsonl               the entries of one chunk
//	attachments/<first>/<sha256>        what is attached to the entries of that chunk: none or many
//	…                                   the next chunk, its attachments, and so on
//	SHA256SUMS                          the SHA-256 of each member before it that is no attachment
//
// export.json is canonical JSON (RFC 8785); numbers that can grow are decimal strings without sign and leading zeros:
//
//	{"end":"512","format":"signet-export/v1","origin":"signet.example/ledger","size":"700","start":"0"}
//
// with start < end ≤ size ≤ 2^62-1. size is that of the checkpoint, origin is its origin.
//
// checkpoint is a C2SP tlog-checkpoint in a signed note, as in package chain, 64 KiB at the most. It may carry cosignatures of witnesses.
//
// proof.json is canonical JSON with two lists of hashes in lower-case hex, the roots of complete subtrees of the RFC 6962 tree:
//
//	{"left":["…"],"right":["…"]}
//
// left covers the leaves [0, start): the subtrees of start's binary digits, the largest first; it is empty where start is 0. right covers
// the leaves [end, size): from p = end on, each time the largest subtree of 2^k leaves with p divisible by 2^k and p + 2^k ≤ size,
// then p = p + 2^k, until p is size. With the leaf hashes of the entries between the two, the root of the checkpoint follows: a stack of
// subtrees, to which left, the leaves and right are added from left to right; whenever the two on top have the same size 2^k, and the
// lower one begins at a multiple of 2^(k+1), they become one: SHA-256(0x01 ‖ lower ‖ upper). In the end the stack is folded from its top:
// root = top; root = SHA-256(0x01 ‖ next ‖ root).
//
// entries/<first>.jsonl holds one entry a line: its canonical bytes (signet-entry/v1, package chain) and a line feed. A chunk ends at the
// next index that is a multiple of 256, or at end. <first> is the index of its first entry in 20 decimal digits.
//
// attachments/<first>/<sha256> are the bytes whose SHA-256 in lower-case hex is the last part of the name, 8 MiB at the most. That digest
// stands as a string in the body of an entry of the chunk. In a chunk they are sorted by name, each is there once. These digests in
// bodies must have their attachment, where they are not empty; other entries may have attachments, too:
//
//	key.created                             keyId
//	certificate.issued                      certificate
//	signer.enrolled, service.enrolled       certificate
//	record.created                          record
//	signature.prepared                      statement
//	signature.created                       statement, signature, authorization, each of timestamps
//	checkpoint.timestamped                  checkpoint, each of timestamps
//
// SHA256SUMS is what sha256sum writes and reads: for each member before it that is no attachment, in their order, the SHA-256 in
// lower-case hex, two spaces, the name, a line feed. It is for people; no proof leans on it.
//
// The archive has one form, so that the same export has the same bytes whoever writes it: each header has the name in its first 100 bytes,
// mode 0000644, uid and gid 0000000, the size in 11 octal digits, the time 15125334400 (in octal: 2026-01-01 00:00:00 UTC), typeflag 0, the magic
// "ustar" NUL "00", device numbers 0000000, and all else NUL; fields of octal digits end in NUL, but the checksum in NUL and a space. Contents are filled
// up to 512 bytes with NUL, and two blocks of NUL end the archive and the file.
//
// # What is verified
//
//   - The archive and its JSON have their one form (else 16, malformed).
//   - The checkpoint is signed by the key that the trust file pins for its origin and size, and cosigned by the quorum of the trust
//     file's witness policy, if there is one. Without a trust file the verdict is 12, untrusted.
//   - Each entry is well-formed, at its index, names the leaf hash of the one before it, and is not older than that. The first one of
//     a range that does not begin at 0 names an entry that is not there; the tree binds that, too.
//   - Entry 0 is of the type ledger.created and names the origin of the checkpoint, and no other is of this type.
//   - The root computed from left, the lines and right is the checkpoint's.
//   - From entry 0 on: each index.committed entry has the root that follows from the entries before it (package index).
//   - Each checkpoint.timestamped entry: its body is {"checkpoint":"<sha256>","root":"<hex>","size":"<decimal>","timestamps":["<sha256>",…]}, with
//     size at most its index and at most 65,536 below it, never smaller than in the one before; the attached checkpoint is signed by
//     the ledger's key, its size and root are these, and it is a head of this tree (where size is not below start). Each time-stamp is
//     an RFC 3161 token over the checkpoint's SHA-256 and verifies against the time-stamp roots that the trust file pins; a sound one of an
//     authority that is not pinned is passed over, as long as another one holds. The entry is at the most one minute older than
//     each time-stamp, and the entry size-1 at the most one minute younger.
//   - Attachments are what their names say, and none that the table above asks for is missing.
//
// Codes are those of `signet verify` (package verify): 10 an attachment or SHA256SUMS that does not fit, 12 no trust file, 13 a time-stamp
// of a checkpoint, 14 entries, chain, tree, checkpoint, witnesses, index, 16 the form. With several faults 16 wins, else the lowest. The
// first fault of form ends the reading, and so does a chunk with more or fewer lines than it must have (14).
//
// # What is not proven
//
// That the ledger has no entries beyond the checkpoint. What the signatures in the attachments are worth: a signature manifest and
// `signet verify` say that. That all the world was shown the same ledger, where the trust file names no witnesses: the report says
// so. That an export from a later index than 0 has true index commitments: whoever has the whole ledger can say that.
//
// # Use
//
//	err := export.Write(ctx, w, ledger, export.Range{Start: 0, End: size, Checkpoint: note})
//	report, err := export.Verify(ctx, file, export.Options{Trust: trust})
//
// Compatibility: what verifies goes on verifying with the same trust file. A change of shape is signet-export/v2.
package export
