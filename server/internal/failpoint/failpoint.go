// Package failpoint names the places where the server may die, so that tests can make it die there.
//
// # The problem
//
// A program that records intent, acts and records the outcome has, between the steps, places where a crash leaves half of the
// work done. Each stands in the code as a comment that begins with "Crash point" and says what is half done and who finishes it.
// A kill at a random moment hits such a place once in a thousand times; a test has to hit it every time.
//
// # How to use it
//
// The comment is followed by a call:
//
//	// Crash point: the batch is durable, nobody has been told. Callers ask again with the same request and get its entries.
//	failpoint.Hit("ledger.after-commit")
//
// In a normal build both functions are empty and inlined: nothing is left of them. In a program built with the tag failpoint the
// environment variable SIGNET_FAILPOINT says what happens:
//
//	SIGNET_FAILPOINT=ledger.after-commit           the process kills itself (SIGKILL) as it gets there for the first time
//	SIGNET_FAILPOINT=ledger.after-commit:7         for the seventh time
//	SIGNET_FAILPOINT=ledger.before-commit=error    Err returns an error there, once; only where the call is Err
//	SIGNET_FAILPOINT=*:40                          the process kills itself at the fortieth place that it gets to, whichever it is
//
// Several are separated by commas. A name that is not in [Points], or anything else that is not understood, ends the process
// with status 2 as soon as it gets to any place, so that no test passes because of a misspelt name.
//
// Every name is in [Points] with a sentence about it, and a test holds the table against the calls and the comments.
package failpoint

// Points names every place: what is half done there, and who finishes it. Places inside the key store's processes are not among
// them: those are reached through the PKCS#11 module (keystore/pkcs11/faulty).
func Points() map[string]string {
	return map[string]string{
		"ledger.file-made":          "an empty file has its name, and the one under which it was made. The next start takes that away.",
		"ledger.create":             "a new file has its buckets, and nothing else. The next start finds an empty ledger.",
		"ledger.before-commit":      "nothing of the batch is in the file. Callers ask again.",
		"ledger.after-commit":       "the batch is durable, nobody has been told. Callers ask again with the same request and get its entries.",
		"ledger.after-answer":       "callers have their answer, and no checkpoint covers it yet. Start-up signs one.",
		"ledger.checkpoint-signed":  "a checkpoint is signed, but not in the file. Start-up signs the same bytes again, or a larger one.",
		"ledger.projection-built":   "a new projection is half built beside the active one. The next start begins it again.",
		"ledger.projection-active":  "the new projection is active, the old one still there. The next start drops it.",
		"ledger.archive-stored":     "entry bundles are in the archive, and in the file, too. The next call stores them again.",
		"ledger.cosigned":           "a cosignature is in memory alone. The next start asks the witness again, about this checkpoint or a larger one.",
		"ledger.sidecar-written":    "what stands beside the file is there anew, under another name. The next one writes over it.",
		"ledger.restored-appended":  "the loss is accepted, and no checkpoint says so. The ledger opens for a restore alone, which is begun again.",
		"ledger.restored-saved":     "the loss is accepted, what stands beside the file is of the history that was given up. The entry speaks for the file.",
		"index.committed":           "a commitment to the index is durable, its own file does not have that state. The follower computes it anew.",
		"ledger.close":              "all commands are answered, the last checkpoint is not saved. Start-up signs it again.",
		"keys.tsa-made":             "a key is in the HSM that no entry names. It means nothing, and its label is not used again.",
		"keys.ca-made":              "a key is in the HSM that no entry names. It means nothing, and its label is not used again.",
		"keys.ca-recorded":          "the CA is in the ledger, and not in the trust file. The next start writes it.",
		"keys.destruction-recorded": "the intent is durable, the key is still in the HSM. The next start destroys it.",
		"keys.destroyed":            "the key is gone, and the ledger does not say so yet. The next start finds that, and says so.",
		"identity.key-made":         "a key is in the HSM that no entry names. It means nothing, and its id is not used again.",
		"identity.key-renewed":      "a key is in the HSM that no entry names. It means nothing, and its label is not used again.",
	}
}
