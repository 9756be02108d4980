// Package signet is the Go client of a Signet server.
//
// A client of a signing service must not take the server's word for what it is about to sign. So this package does more
// than carry messages:
//
//   - It speaks TLS 1.3 alone, with a pinned CA where one is given ([Options]).
//   - It proves the answers of a ceremony: [Client.Prepare] parses the statement again, derives the rendering for people
//     from its bytes and compares it with what the server showed, and holds subjects, decision, meaning, reason and challenge
//     against what was asked for. [Client.Sign] takes only a signature over exactly these bytes that verifies under the
//     certificate beside it; with a trust file it also proves the certificate, the time-stamp and the place in the ledger. An answer that does not fit is
//     [ErrContradiction]: a broken or a hostile server.
//   - It restores typed errors: every failed call gives an [*Error] with the code, the stable reason, and when to try again.
//     errors.Is(err, signet.RecordClosed) works.
//   - It retries what is safe: reads, and changes that carry a request id, which the server answers once. Sign is never
//     repeated: a person signs once. Nothing else is retried.
//   - It streams large things in bounded pieces, and gives pages as iterators.
//
// # Use
//
//	client, err := signet.Dial("sign.example:7443", signet.Options{CA: pem, Token: signet.StaticToken(token)})
//	if err != nil { … }
//	defer client.Close()
//
//	prepared, err := client.Prepare(ctx, signet.Intent{
//		Record: "records/…", Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "…",
//	})
//	if err != nil { … }
//	fmt.Print(prepared.Rendering) // show it: this is what will be signed
//	signed, err := client.Sign(ctx, prepared, signet.Password{UserName: "ada", Password: secret})
//
// A [Client] may be used by several goroutines at once.
package signet
