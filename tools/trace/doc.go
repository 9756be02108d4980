// Trace says which requirement is shown by which test, and what became of it.
//
// # The problem
//
// Whoever uses Signet in a regulated process has to validate it: for each requirement, show the test that would fail
// without it, and that it ran and passed. A table kept by hand is out of date the day after. So the tests say
// themselves which rows they are about,
//
//	t.Attr("requirement", "A-15")
//
// and trace joins three things: the rows (deploy/validation/requirements.yaml), the test sources, and the stream that
// `go test -json` wrote.
//
// # States
//
// A row never looks better than what was seen:
//
//	failed    a test of the row failed, did not finish, or stands in a package or test that failed around it
//	not run   a test of the row exists and was not seen to run (all or some of them), or a part of the row is not built yet
//	skipped   a test of the row, or a part of one, was skipped
//	passed    at least one test of the row ran, and all of them passed
//	no test   no test names the row
//
// The first that applies counts, from the top. Ids that no row has are an error: a typing mistake must not hide a gap.
//
// # Use
//
//	trace test  [-stream FILE] -- go test -json ./...    runs tests, prints what go test would, keeps the stream
//	trace index [flags] STREAM...                        writes index.json and the HTML matrix
//	trace junit [-o FILE] STREAM...                      writes JUnit XML
package main
