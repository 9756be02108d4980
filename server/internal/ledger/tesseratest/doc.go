// Package tesseratest holds the tests that read a ledger with Tessera's own code, unmodified, and the benchmark that runs beside
// Tessera's log on files. It is a module of its own, so that who builds Signet does not carry Tessera.
package tesseratest
