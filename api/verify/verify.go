package verify

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// Input is what is held against each other.
type Input struct {
	// Bundle is the bundle's document as read from the files. nil: it is read from BundlePath.
	Bundle *bundle.Document
	// BundlePath names a folder or an archive.
	BundlePath string
	// SkipContent says that no bundle is there to compare. The report then says that the content was not checked.
	SkipContent bool
	// Manifest is the manifest file.
	Manifest []byte
	// Trust is the pinned trust file. Without one nothing is trusted, and the verdict says so.
	Trust []byte
	// At asks what somebody found who verified at that time: see "At an earlier time" in the package documentation. Zero: everything that the
	// manifest holds is judged.
	At time.Time
	// Progress is called while the bundle is read; may be nil.
	Progress func(bundle.Progress)
}

// Verify judges. The error is nil unless the input is incomplete ([ErrUsage]) or could not be read for a reason that says
// nothing about it (I/O, a cancelled context); a failed verification is a [Report] with a code other than [OK].
func Verify(ctx context.Context, in Input) (*Report, error) {
	if len(in.Manifest) == 0 {
		return nil, fmt.Errorf("%w: a manifest is needed", ErrUsage)
	}
	if in.SkipContent && (in.Bundle != nil || in.BundlePath != "") || in.Bundle != nil && in.BundlePath != "" {
		return nil, fmt.Errorf("%w: a bundle is given once, or not at all", ErrUsage)
	}
	j := &judge{
		report: newReport(), notes: map[string]bool{}, checkpoints: map[string]opened{}, parsed: map[string]*x509.Certificate{},
	}
	if !in.At.IsZero() {
		j.at = in.At.UTC().Truncate(time.Millisecond)
		j.report.At = manifest.NewTime(j.at).String()
	}
	if err := j.all(ctx, in); err != nil {
		return nil, err
	}
	j.report.Code = verdict(j.report.Faults)
	j.report.Verdict = j.report.Code.String()
	return j.report, nil
}

// judge holds what is known while judging.
type judge struct {
	report      *Report
	at          time.Time // zero: nothing is left out as later
	m           manifest.Manifest
	trust       manifest.Trust
	signerRoots []root
	stampRoots  []root
	signatures  []*signature
	bindings    []binding
	revocations []revocation
	superseded  []supersession
	bound       []boundPasskey
	unbound     []revokedPasskey
	given       []givenRole
	taken       []takenRole
	groups      []groupChange
	facts       facts
	checkpoints map[string]opened            // by note: several proofs have the same one
	parsed      map[string]*x509.Certificate // by DER: all signers have the same root
	subject     manifest.Digest              // of the record
	notes       map[string]bool
}

// signature is what is known of one signature.
type signature struct {
	manifest.Signature
	where     string
	report    *SignatureReport
	canonical []byte
	digest    manifest.Digest
	genTime   time.Time // zero: not proven
	accuracy  time.Duration
	entry     *chain.Entry // nil: not proved
	// checkpoint is what proves the entry.
	checkpoint chain.Checkpoint
	bad        bool
	// faults are the codes of what was found wrong with it; made and identified say that these checks came to their end.
	faults           map[Code]bool
	made, identified bool
}

func (s *signature) closing() bool { return s.Statement.Closing() }

func (j *judge) fault(code Code, where, format string, args ...any) {
	j.report.Faults = append(j.report.Faults, Fault{code, fmt.Sprintf(format, args...), where})
}

// signatureFault notes a fault of one signature, which then does not count.
func (j *judge) signatureFault(s *signature, code Code, part, format string, args ...any) {
	s.bad = true
	if s.faults == nil {
		s.faults = map[Code]bool{}
	}
	s.faults[code] = true
	j.fault(code, s.where+part, format, args...)
}

// note says something that is no fault, once.
func (j *judge) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !j.notes[text] {
		j.notes[text] = true
		j.report.Notes = append(j.report.Notes, text)
	}
}

// all judges in the order that the package comment gives.
func (j *judge) all(ctx context.Context, in Input) error {
	var err error
	if j.m, err = manifest.Parse(in.Manifest); err != nil {
		j.fault(Malformed, "manifest", "%v", err)
		return nil
	}
	in.Manifest = nil // all of it that is needed is parsed; it may be as large as everything else together
	if !j.readTrust(in.Trust) {
		return nil
	}
	if err := j.content(ctx, in); err != nil {
		return err
	}
	if !j.record() {
		return nil
	}
	j.report.Signatures = make([]SignatureReport, len(j.m.Signatures))
	for i, s := range j.m.Signatures {
		j.report.Signatures[i] = signatureReport(s)
		canonical, err := s.Statement.Canonical()
		if err != nil {
			j.fault(Malformed, fmt.Sprintf("signatures[%d].statement", i), "%v", err)
			return nil
		}
		j.signatures = append(j.signatures, &signature{
			Signature: s, where: fmt.Sprintf("signatures[%d]", i), report: &j.report.Signatures[i],
			canonical: canonical, digest: digest(canonical),
		})
	}
	j.support()
	j.passkeys()
	for _, s := range j.signatures {
		if err := ctx.Err(); err != nil {
			return err
		}
		j.one(s)
	}
	j.signatures = slices.DeleteFunc(j.signatures, func(s *signature) bool { return s.report.Later })
	j.order()
	j.agreement()
	for _, s := range j.signatures {
		s.report.Holds = !s.bad
		s.report.Checks = ChecksReport{
			Signature: s.made && !s.faults[Signature],
			Identity:  s.identified && !s.genTime.IsZero() && !s.faults[Untrusted],
			Time:      !s.genTime.IsZero() && !s.faults[TimeNotProven],
			Ledger:    s.entry != nil && !s.faults[Ledger],
		}
	}
	j.policy()
	j.asOf()
	j.report.judged = true
	return nil
}

// readTrust reads the trust file.
func (j *judge) readTrust(b []byte) bool {
	if len(b) == 0 {
		j.fault(Untrusted, "trust", "no trust file is pinned, so nothing is trusted: a key inside a manifest vouches for nobody")
		return true
	}
	var err error
	if j.trust, err = manifest.ParseTrust(b); err != nil {
		j.fault(Malformed, "trust", "%v", err)
		return false
	}
	if j.signerRoots, err = j.readRoots(j.trust.SignerRoots); err == nil {
		j.stampRoots, err = j.readRoots(j.trust.TimestampRoots)
	}
	if err != nil {
		j.fault(Malformed, "trust", "%v", err)
		return false
	}
	return true
}

// record holds the record against the bundle's document, and reports what was signed.
func (j *judge) record() bool {
	d, err := j.m.Record.Digest()
	if err != nil {
		j.fault(Malformed, "record", "%v", err)
		return false
	}
	j.subject = d
	j.report.Record = recordReport(j.m.Record, d)
	j.report.Policy = policyReport(j.m.Record.Policy)
	if e := j.m.Record.System.Environment; e != manifest.Production {
		j.note("the record was made in the environment %q: it is not a production signature", e)
	}
	return true
}

// certificate parses a certificate, each once.
func (j *judge) certificate(der []byte) (*x509.Certificate, error) {
	if c, ok := j.parsed[string(der)]; ok {
		return c, nil
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		j.parsed[string(der)] = c
	}
	return c, err
}

// one judges one signature by itself. One that is proved to be later than the time in question is not judged.
func (j *judge) one(s *signature) {
	placed := j.place(s)
	if placed == nil && j.later(s.entry.Time.Time()) {
		s.report.Later = true
		s.report.Why = fmt.Sprintf("later: its entry is of %s", s.entry.Time)
		return
	}
	if err := s.Statement.AboutDigest(j.m.Record, j.subject); err != nil {
		j.signatureFault(s, Signature, ".statement", "%v", err)
	}
	j.time(s)
	j.value(s)
	j.ledger(s, placed)
	j.identity(s)
	j.enrolment(s)
}
