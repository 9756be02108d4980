// Package trail turns entries of a ledger into copies that people read: text, CSV, JSON Lines and HTML. It opens no socket.
//
// # The problem
//
// 21 CFR 11.10(b) asks for copies of records "in both human readable and electronic form", and 11.10(e) for an audit trail of who did what, when and why.
// A readable copy is only worth something if it says what the record says. So everything here is derived from the entries' bytes alone: no name, time or
// value comes from anywhere else. Names of people come from the enrolments among these entries; who is enrolled outside of them is shown by their id.
//
// # The format
//
// Each entry becomes an [Item]: its index, its time in UTC with milliseconds, who caused it, one sentence that says what happened, why (the "reason" of its
// body), then every member of its body, whatever it is, by its path, and its leaf hash. So nothing in a body is left out, and values that a later
// version of a body adds are shown as well. What a signature is about (decision, meaning, reason) stands in its statement, an attachment whose SHA-256 the
// entry names: where attachments are at hand, as in an export, the statement is held against the digest and shown in the same way.
//
//   - text: a block of lines for each entry
//   - CSV (RFC 4180, UTF-8): the header of [Columns], then a record for each entry. A text that a spreadsheet might take for a formula has a ' before it
//   - JSON Lines: the entry itself, byte for byte, one a line
//   - HTML: one page that needs nothing else, without script, in the order of the entries, for screen, screen reader and printer
//
// The same entries give the same bytes.
//
// # Use
//
//	w, err := trail.New(trail.HTML, file, trail.Header{Origin: origin})
//	for each entry { err = w.Add(raw) }
//	err = w.Close()
//
// # Compatibility
//
// Sentences may be worded better one day; paths, values, columns and hashes stay.
package trail
