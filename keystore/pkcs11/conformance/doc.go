// Package conformance finds out what a PKCS#11 module and its token can do, before anybody relies on them. It is what
// `signetd hsm test` runs.
//
// # The problem
//
// What a device says of itself and what it does differ. Modules answer OK to an attribute that they do not keep, list
// mechanisms that fail, copy a key that must not leave the device into one that can, cut a digest off, or lose the
// login when a session is closed. None of that shows until a signature is disputed. So nothing is taken from a data
// sheet or a list of mechanisms: [Run] tries each thing, with keys of its own, and reports what happened.
//
// # What it does to the token
//
// It logs in as user, makes keys, signs with them, tries to get them out, and destroys them. Every label begins with
// [Prefix], and no object with another label is touched, copied or read. What it made is removed at the end, also
// after a failure or an interrupt; what an earlier run that was killed left behind is found and removed at the
// beginning. A wrong PIN is tried only if the [Config] allows it, once, with the right one after it.
//
// Run it one at a time on a token, in a process that does not use the module otherwise, and not beside a service in
// use: the measurements put the device under full load.
//
// # What it says
//
// The [Report] has a [Requirement] for each thing that Signet needs, with a [Verdict], what was seen, and what to do.
// A token that is [Unfit] in any must not hold signers' keys; [Limits] are those that Signet deals with by itself or
// that cost speed or an algorithm. The report is the evidence of a customer's validation: keep its JSON.
package conformance
