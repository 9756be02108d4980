// Package verify judges a signature manifest: it holds a bundle, a manifest and a pinned trust file against each other
// and says what they prove. It opens no socket, asks no server and reads no clock: the same input gives the same
// verdict in decades.
//
// # The problem
//
// "The signature is valid" is an answer to one of seven questions, and a release is only what was approved if all of
// them have the answer yes. So every question is asked, every fault is collected and printed, and one exit code says
// what kind of fault was found:
//
//	 0 verified     content, signature, identity, time, ledger and policy all hold
//	 1 internal     I/O failed; nothing is known (an error of [Verify])
//	 2 usage        wrong use (an error of [Verify] that wraps [ErrUsage])
//	10 content      files against the bundle document, or an exclusion that the policy does not allow
//	11 signature    a signed digest, event, key id or algorithm does not fit, or the signature does not verify
//	12 untrusted    no pinned root for the signer; certificate profile, name or id; revoked; enrolment
//	13 time         no pinned root for the time-stamp; token, window, accuracy
//	14 ledger       no pinned ledger; entry, body, order, previous, inclusion, consistency, witnesses
//	15 policy       threshold, separation of duties, rejected, withdrawn, superseded, no closing seal
//	16 malformed    a file that cannot be read as what it should be
//
// With several faults 16 wins, and else the lowest from 10 up. Verification fails closed: what cannot be shown does not
// hold.
//
// # The order of judgement
//
// The files are parsed (16); the bundle is held against its document (10), and the document against the record (11).
// The supporting ledger entries are proved. Then each signature: what it is about; its time first, because whether a
// certificate held is a question about that time (where it is not proven, 13 is reported and the certificates are
// checked for their chain alone); the signature itself; its ledger entry, the entry's place and body, and that the head
// which the signer was shown is an earlier state of the same ledger; the authorization, with a passkey its assertion over this statement and
// the chain of bindings from a pinned passkey to it (package passkey says which hold); the certificate's profile,
// names and chain; the enrolment that the statement names, and revocations. Then what only all together show: the
// order, `previous`, agreement of all checkpoints and entries, policy, closing seals.
//
// # What counts for the policy
//
// Of each person and activity the newest decision of the activity's last attempt counts, by ledger index; a withdrawal
// takes all earlier decisions of the person back. Only designated approvers count, none of the excluded ones, and only
// signatures that hold and were authorised with at least what the policy requires. An approval counts where it is about
// the record as a whole; a rejection counts wherever it stands. A service's seal, and the digest of an automatic stamp
// in the record, never count. The policy is satisfied with k approvals of distinct people with distinct keys, no
// rejection where one vetoes, and a closing seal over exactly all statements before it, as the last signature, with the
// outcome "approved".
//
// # At an earlier time
//
// Judged is what the manifest holds, each signature as of its own genTime: whether certificate, root and key held is a question about the time at
// which it was made, whoever asks, and whenever. With [Input].At the question is another one: what somebody found who verified at that time
// (an auditor, a deployment), when later signatures had not been made and later revocations were not known.
//
// The ledger is cut there. What counts is what its entries show up to that time, the time itself included:
//
//   - A signature whose proved entry is later is not judged and has no fault. The report says that it is later. So a withdrawal after the time takes
//     nothing back, and before the closing seal the policy was not satisfied yet. An entry that is not proved has no time: its signature is judged,
//     and fails.
//   - Supporting entries that are later say nothing: revocations, renewals, roles, passkeys, supersession. Their proofs must hold all the same, and so
//     must the agreement of all that is proved: a fork is a fault whenever it shows.
//   - A line of the trust file's `revoked` whose `from` is later does not count. One whose `from` is not later counts, although the trust file may
//     have got it later: it does not say when.
//   - A pinned root holds for a genTime in [from, to), as always. Every genTime that is judged lies before the time (but for its accuracy), so a root
//     that was only trusted later leads to nothing, and one that was given up later still leads to what it did.
//   - The proofs are those at hand. They may be of a checkpoint later than the time; the tree proves that the entries stood in it in the same place.
//   - The files are those at hand, too: nothing says what they were at that time.
//
// A time later than the newest entry changes nothing but what the report says: a note tells how far the manifest reaches.
//
// # What is not proven
//
// File modes, owners and times are not covered by a bundle. A password is the server's word. Without a witness policy
// nobody but the ledger's operator has seen that there is one ledger only. A revocation that the server keeps to itself is not seen: put the key
// into the trust file. With a passkey it is proven that the signer's device has signed the statement, not what its screen has shown. Whom a record
// designates, and how many of them must approve, is the record's own word, which each of them has signed. What was signed after the manifest was
// written is not in it: the report says as of when it is complete.
//
// # Test vectors
//
// testdata/tampered holds manifests and exports (package export), most of them tampered with, and cases.json, which says the verdict of each. This
// package is held to them, and so is clients/python/signet_verify.py, which was written from the formats alone.
//
// Compatibility: a manifest that verified goes on verifying with the same trust file. Codes are never renumbered.
package verify
