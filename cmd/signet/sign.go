package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/clients/go/signet"
)

// signing is what the flags of sign say.
type signing struct {
	decision, meaning, reason, reasonFile string
	user, out, requires                   string
	bundle                                string
	excluded                              []string
	withdraw, yes, browser                bool
	password                              secretInput
}

// signOut is a signature that was made.
type signOut struct {
	Record      string `json:"record" doc:"resource name of the record"`
	RecordState string `json:"recordState" doc:"state of the record after it: open, approved, rejected, withdrawn or superseded"`
	File        string `json:"file" doc:"path of the signature manifest that was written"`
	Signer      string `json:"signer" doc:"signer id"`
	PrintedName string `json:"printedName" doc:"printed name"`
	Decision    string `json:"decision" doc:"what was decided"`
	Meaning     string `json:"meaning" doc:"identifier of the meaning"`
	Reason      string `json:"reason" doc:"the reason, verbatim"`
	Time        string `json:"time" doc:"when: the time-stamp's time"`
	KeyID       string `json:"keyId" doc:"SHA-256 of the key's SubjectPublicKeyInfo"`
	LedgerIndex string `json:"ledgerIndex" doc:"index of the entry, as a decimal string"`
	Statement   string `json:"statementDigest" doc:"SHA-256 of the canonical statement"`
	Verdict     string `json:"verdict" doc:"judgement of the whole manifest with the pinned trust file, its content not compared; empty without one"`
}

func (a *app) signCommand() *cobra.Command {
	f := &signing{}
	cmd := documented(&cobra.Command{
		Use: "sign RECORD", Short: "Sign a record: decide about it with an electronic signature", Args: exactArgs("RECORD"),
		Long: `Sign a record: decide about it with an electronic signature (21 CFR Part 11).

Decision, meaning and reason are yours: nothing is preselected. The statement is shown exactly as it will be signed; you confirm it, and prove
who you are with user name and password for this one signature. The signature manifest is written to signatures/release-vX.Y.Z.json below
--out; a manifest that is there already is replaced only by one that extends it.

At a terminal, what is not given is asked for. Without one, give --decision, --meaning, --reason, --user, a source of the password, and --yes.
With --bundle the files here are compared with the record before you are asked. With --browser the statement's page opens in your browser
($BROWSER, or the system's own); you log in, read and sign there, and the manifest is written here.`,
		Example: `  signet sign records/0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69
  signet sign 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --bundle dist/ --exclude signatures/
  signet sign 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --decision approve --meaning release-approval \
    --reason "All gates green, risk file reviewed." --user ada --password-fd 3 --yes 3< password.txt
  signet sign 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --withdraw --reason "A defect was found."
  signet sign 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --browser --requires password+passkey`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := recordName(args[0]); err != nil {
				return err
			}
			if err := a.checkSigning(f); err != nil {
				return err
			}
			return a.withRecord(cmd.Context(), args[0], func(ctx context.Context, client *signet.Client, s selected, r *signet.Record) error {
				return a.sign(ctx, client, s, r, f)
			})
		},
	}, signOut{})
	flags := cmd.Flags()
	flags.StringVar(&f.decision, "decision", "", "approve, reject, abstain, review or author")
	flags.StringVar(&f.meaning, "meaning", "", "identifier of the meaning (signet record types)")
	flags.StringVar(&f.reason, "reason", "", "why, in your own words; signed verbatim")
	flags.StringVar(&f.reasonFile, "reason-file", "", "read the reason from this file (- for standard input)")
	flags.BoolVar(&f.withdraw, "withdraw", false, "take your own newest decision about the record back")
	flags.StringVar(&f.user, "user", "", "your user name")
	flags.StringVar(&f.out, "out", ".", "folder that holds signatures/")
	flags.StringVar(&f.bundle, "bundle", "", "compare this folder or archive with the record first")
	excludeFlag(cmd, &f.excluded)
	flags.BoolVar(&f.yes, "yes", false, "confirm the statement without being asked")
	flags.StringVar(&f.requires, "requires", "", "components to prove yourself with, at least those of the policy: password, password+totp or password+passkey")
	flags.BoolVar(&f.browser, "browser", false, "read and sign the statement on the server's page for it, where passkeys sign, too; nothing is asked for here")
	f.password.flags(cmd, "password", "the password")
	f.password.totpFlags(cmd)
	suggests(cmd, "decision", decisionWords()...)
	return cmd
}

// checkSigning finds what is missing before anything is asked or sent.
func (a *app) checkSigning(f *signing) error {
	if f.reason != "" && f.reasonFile != "" {
		return usagef("give --reason or --reason-file, not both")
	}
	if f.browser && (f.user != "" || f.password.given() || f.yes) {
		return usagef("with --browser the statement is confirmed and signed on its page: --user, --yes and the password do not go with it")
	}
	if f.withdraw && (f.decision != "" || f.meaning != "") {
		return usagef("--withdraw takes a decision back: --decision and --meaning do not go with it")
	}
	if f.decision != "" {
		if _, err := parseDecision(f.decision); err != nil {
			return err
		}
	}
	if a.interactive() && f.reasonFile != "-" && f.password.file != "-" && f.password.fd != 0 {
		return nil
	}
	need := map[string]bool{"--user": f.user == "", "--password-file or --password-fd": !f.password.given(), "--yes": !f.yes, "--reason or --reason-file": f.reason == "" && f.reasonFile == ""}
	if f.browser {
		need = map[string]bool{"--reason or --reason-file": f.reason == "" && f.reasonFile == ""}
	}
	if !f.withdraw {
		need["--decision"], need["--meaning"] = f.decision == "", f.meaning == ""
	}
	var missing []string
	for _, name := range sorted(need) {
		if need[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return &exitError{code: exitUsage, err: fmt.Errorf("there is no terminal to ask, and this is missing: %s", join(missing)),
			next: "signet sign --help shows an example; nothing has a default, and nothing was signed"}
	}
	return nil
}

// sign is the ceremony: content, decision, meaning, reason, statement, confirmation, credentials; then the manifest.
func (a *app) sign(ctx context.Context, client *signet.Client, s selected, r *signet.Record, f *signing) error {
	if err := checkPlace(f.out, r); err != nil {
		return err
	}
	if err := a.compareBundle(ctx, r, f); err != nil {
		return err
	}
	p := a.printer(a.stderr)
	if a.interactive() || !a.json {
		p.record(r)
		p.line("")
	}
	prepared, err := a.prepare(ctx, client, r, f)
	if err != nil {
		return err
	}
	if a.interactive() || !a.json {
		p.line("\n%s\n", p.bold("This is what will be signed:"))
		p.line("%s", cleanText(prepared.Rendering))
		p.details(pair{"Statement SHA-256", prepared.Digest.String()}, pair{"Challenge", fmt.Sprintf("%x", prepared.Challenge)}, pair{"Lapses", when(prepared.Expires)})
		p.line("")
	}
	if f.browser {
		signed, err := a.signInBrowser(ctx, client, prepared)
		if err != nil {
			return err
		}
		return a.finish(ctx, client, s, r, signed, f)
	}
	if !f.yes {
		version := r.Content.Version
		if err := a.confirm(ctx, fmt.Sprintf("Type %s or \"sign\" to sign it: ", clean(version)), version, "sign"); err != nil {
			return err
		}
	}
	signed, err := a.prove(ctx, client, prepared, f)
	if err != nil {
		return err
	}
	return a.finish(ctx, client, s, r, signed, f)
}

// compareBundle holds the files that the signer has against the record.
func (a *app) compareBundle(ctx context.Context, r *signet.Record, f *signing) error {
	if f.bundle == "" {
		return nil
	}
	doc, err := a.readBundle(ctx, f.bundle, f.excluded)
	if err != nil {
		return err
	}
	digest, err := doc.Digest()
	if err != nil {
		return err
	}
	if r.Content.Bundle.IsZero() || digest != r.Content.Bundle.Digest.SHA256 {
		return &exitError{code: int(verify.Content), err: fmt.Errorf("%s has the digest %s, the record is about %s", f.bundle, digest, r.Content.Bundle.Digest.SHA256),
			next: "do not sign: the record is about other files, or --exclude is not the one of the record"}
	}
	a.notice("%s is what the record is about (%s).", f.bundle, digest)
	return nil
}

// prepare asks for what was not given, and has the statement prepared.
func (a *app) prepare(ctx context.Context, client *signet.Client, r *signet.Record, f *signing) (*signet.Prepared, error) {
	if f.withdraw {
		reason, err := a.reason(ctx, f)
		if err != nil {
			return nil, err
		}
		return client.Withdraw(ctx, r.Name(), reason)
	}
	types, err := client.RecordTypes(ctx)
	if err != nil {
		return nil, err
	}
	var meanings []*signetv1.Meaning
	for _, t := range types {
		if t.GetId() == r.Content.Event.Type {
			meanings = t.GetMeanings()
		}
	}
	decision, err := a.decision(ctx, f, meanings)
	if err != nil {
		return nil, err
	}
	meaning, err := a.meaning(ctx, f, meanings, decision)
	if err != nil {
		return nil, err
	}
	reason, err := a.reason(ctx, f)
	if err != nil {
		return nil, err
	}
	return client.Prepare(ctx, signet.Intent{Record: r.Name(), Decision: decision, Meaning: meaning, Reason: reason, Requires: manifest.AuthorizationKind(f.requires)})
}

// goesWith reports whether a meaning goes with a decision.
func goesWith(m *signetv1.Meaning, d signetv1.Decision) bool {
	for _, with := range m.GetDecisions() {
		if with == d {
			return true
		}
	}
	return false
}

// decision is the one that was given, or chosen from those that a meaning goes with.
func (a *app) decision(ctx context.Context, f *signing, meanings []*signetv1.Meaning) (signetv1.Decision, error) {
	if f.decision != "" {
		return parseDecision(f.decision)
	}
	var options []option
	for _, d := range decisions {
		for _, m := range meanings {
			if goesWith(m, d.value) {
				options = append(options, option{decisionWord(d.value), d.text})
				break
			}
		}
	}
	if len(options) == 0 {
		return 0, errors.New("the server knows no meaning for this type of record")
	}
	id, err := a.choose(ctx, "What do you decide?", options)
	if err != nil {
		return 0, err
	}
	return parseDecision(id)
}

// meaning is the one that was given, or chosen from the controlled list.
func (a *app) meaning(ctx context.Context, f *signing, meanings []*signetv1.Meaning, decision signetv1.Decision) (string, error) {
	var options []option
	for _, m := range meanings {
		if goesWith(m, decision) {
			options = append(options, option{m.GetId(), m.GetText()})
		}
	}
	if f.meaning == "" {
		if len(options) == 0 {
			return "", usagef("no meaning goes with the decision %q: signet record types lists them", decisionWord(decision))
		}
		return a.choose(ctx, "What does your signature mean?", options)
	}
	var known []string
	for _, o := range options {
		if o.id == f.meaning {
			return o.id, nil
		}
		known = append(known, o.id)
	}
	return "", usagef("%q is not a meaning that goes with the decision %q: it is one of %s", f.meaning, decisionWord(decision), join(known))
}

// reason is the one that was given, or asked for. It is signed verbatim, and has no default.
func (a *app) reason(ctx context.Context, f *signing) (string, error) {
	reason := f.reason
	switch {
	case f.reasonFile == "-":
		if err := a.takeStdin("--reason-file"); err != nil {
			return "", err
		}
		b, err := readAll(a.stdin, "standard input", 16<<10)
		if err != nil {
			return "", err
		}
		reason = strings.TrimRight(string(b), "\r\n")
	case f.reasonFile != "":
		b, err := readGiven(f.reasonFile, 16<<10)
		if err != nil {
			return "", err
		}
		reason = strings.TrimRight(string(b), "\r\n")
	case reason == "":
		return a.ask(ctx, "\nWhy? In your own words, signed verbatim: ")
	}
	if strings.TrimSpace(reason) == "" || !utf8.ValidString(reason) {
		return "", usagef("the reason is empty, or not UTF-8")
	}
	return reason, nil
}

// prove asks for the signer's components and signs. At a terminal a wrong password can be corrected while the preparation holds.
func (a *app) prove(ctx context.Context, client *signet.Client, prepared *signet.Prepared, f *signing) (*signet.Signed, error) {
	if prepared.Requires == manifest.AuthorizationPasswordTOTP {
		f.password.askTotp = true
	}
	for attempt := 1; ; attempt++ {
		who, err := a.credentials(ctx, f.user, &f.password)
		if err != nil {
			return nil, err
		}
		signed, err := client.Sign(ctx, prepared, who)
		if errors.Is(err, signet.BadCredentials) && a.interactive() && !f.password.given() && attempt < 3 {
			a.notice("%s", cleanText(err.Error()))
			continue
		}
		switch signet.CodeOf(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
			if err != nil && !errors.Is(err, signet.ErrContradiction) && !errors.Is(err, signet.HSMUnavailable) && !errors.Is(err, signet.ClockUntrusted) {
				err = withNext(err, "it is not known whether the signature was made: read signet record show %s before you sign again", prepared.Record.Name())
			}
		}
		return signed, err
	}
}

// finish fetches the manifest, checks that the signature is in it, verifies it, and writes it.
func (a *app) finish(ctx context.Context, client *signet.Client, s selected, r *signet.Record, signed *signet.Signed, f *signing) error {
	said := signed.Signature.Statement.Predicate
	made := func(err error) error {
		return withNext(fmt.Errorf("the signature was made (ledger entry %d), but: %w", signed.Index, err),
			"signet record manifest %s --out %s writes the manifest; do not sign again", r.Name(), f.out)
	}
	m, err := client.GetManifest(ctx, r)
	if err != nil {
		return made(err)
	}
	found := false
	for _, sig := range m.Manifest.Signatures {
		found = found || bytes.Equal(sig.Ledger.Entry, signed.Signature.Ledger.Entry) && bytes.Equal(sig.Signature.Value, signed.Signature.Signature.Value)
	}
	if !found {
		return made(fmt.Errorf("%w: it is not in the manifest", signet.ErrContradiction))
	}
	verdict, err := judge(ctx, s, m)
	if err != nil {
		return made(err)
	}
	path, _, err := placeManifest(f.out, m)
	if err != nil {
		return made(err)
	}
	digest, err := signed.Signature.Statement.Digest()
	if err != nil {
		return err
	}
	o := signOut{
		Record: r.Name(), RecordState: recordStateWord(signed.RecordState), File: path, Signer: said.Signer.ID, PrintedName: said.Signer.Name, Decision: said.Decision,
		Meaning: said.Meaning.ID, Reason: said.Reason, Time: stamp(signed.Time), KeyID: signed.Signature.Signature.KeyID,
		LedgerIndex: fmt.Sprint(signed.Index), Statement: digest.String(), Verdict: verdict,
	}
	return a.print(o, func(p *printer) {
		p.line("%s", p.good("Signed: "+clean(o.PrintedName)+", "+o.Decision+", "+when(signed.Time)))
		p.details(pair{"Record", o.Record + " is " + o.RecordState}, pair{"Ledger entry", o.LedgerIndex}, pair{"Key", o.KeyID}, pair{"Manifest", o.File}, pair{"Verdict", o.Verdict})
		if verdict == "" {
			p.line("%s", p.warn("Not verified to pinned anchors: no trust file is pinned (signet trust add FILE)."))
		}
		p.line("\nTo verify it anywhere: signet verify --bundle PATH --manifest %s", o.File)
	})
}

// judge verifies a manifest with the pinned trust file. A policy that is not satisfied yet is a verdict; any other fault is an error, and the manifest is not written.
func judge(ctx context.Context, s selected, m *signet.ManifestFile) (string, error) {
	p, err := s.pinnedTrust()
	if p == nil || err != nil {
		return "", err
	}
	report, err := verify.Verify(ctx, verify.Input{SkipContent: true, Manifest: m.Bytes, Trust: p.bytes})
	if err != nil {
		return "", err
	}
	if report.Code != verify.OK && report.Code != verify.Policy {
		return "", &exitError{code: int(report.Code), err: fmt.Errorf("%w: the manifest does not verify with the pinned trust file: %s", signet.ErrContradiction, report.Faults[0])}
	}
	return report.Verdict, nil
}
