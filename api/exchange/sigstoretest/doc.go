// Package sigstoretest holds what [github.com/signetd/signet/api/exchange] writes, and the time-stamps that a server gives, against the verifier of Sigstore's own library, unmodified. It is
// a module of its own, so that nobody else carries that library.
package sigstoretest
