package verify

import (
	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
)

// Report is everything that was found. Its JSON is what `signet verify --json` prints.
type Report struct {
	Code        Code                `json:"code"`
	Verdict     string              `json:"verdict"`
	At          string              `json:"at"` // the time at which somebody would have found this; empty: now
	Faults      []Fault             `json:"faults"`
	Record      RecordReport        `json:"record"`
	Content     ContentReport       `json:"content"`
	Signatures  []SignatureReport   `json:"signatures"` // in the order of the ledger
	Policy      PolicyReport        `json:"policy"`
	Complete    *CompleteReport     `json:"completeAsOf"` // null: no closing seal holds
	Unwitnessed bool                `json:"unwitnessed"`  // nobody but its operator vouches for the ledger
	Notes       []string            `json:"notes"`
	differences []bundle.Difference // as read
	judged      bool
}

// RecordReport says what was signed.
type RecordReport struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Title       string `json:"title"`
	Type        string `json:"type"`
	Event       string `json:"event"`
	Digest      string `json:"sha256"`
	Environment string `json:"environment"`
	Access      string `json:"access"` // closed or open system (21 CFR 11.3); empty: not declared
	Software    string `json:"software"`
	Repo        string `json:"repo"`
	Commit      string `json:"commit"`
	Branch      string `json:"branch"`
	Tag         string `json:"tag"`
}

// ContentReport says how the bundle was compared.
type ContentReport struct {
	Checked  bool              `json:"checked"` // false: nothing was compared, because the caller said so or there is no bundle
	Bundle   bool              `json:"bundle"`  // whether the record has one
	Matches  bool              `json:"matches"` // every listed file is there as it was signed, and no other
	Digest   string            `json:"sha256"`
	Files    int               `json:"files"`
	Bytes    int64             `json:"bytes"`
	Excluded []string          `json:"excluded"` // not covered by any signature
	Roles    map[string]string `json:"roles"`
}

// SignatureReport is one signature. All its fields but Timestamps, Holds, Counted, Why, Later and Checks come from signed bytes.
type SignatureReport struct {
	Signer        string            `json:"signer"`
	Name          string            `json:"name"` // printed name
	Title         string            `json:"title"`
	Organisation  string            `json:"organisation"`
	Decision      string            `json:"decision"`
	Activity      string            `json:"activity"`
	Meaning       string            `json:"meaning"`
	MeaningText   string            `json:"meaningText"`
	Reason        string            `json:"reason"`
	Statement     string            `json:"statement"`
	Authorization string            `json:"authorization"`
	Passkey       *PasskeyReport    `json:"passkey"`    // null: none that holds
	Time          string            `json:"time"`       // genTime of the first token, UTC; empty: not proven
	Accuracy      string            `json:"accuracy"`   // of the time
	LocalTime     string            `json:"localTime"`  // with the signer's zone
	Timestamps    []TimestampReport `json:"timestamps"` // each token, in the manifest's order; none where it was not judged
	Zone          string            `json:"zone"`
	Offset        string            `json:"offset"`
	Algorithm     string            `json:"algorithm"`
	KeyID         string            `json:"keyId"`
	Origin        string            `json:"origin"`       // of the ledger
	Index         uint64            `json:"index,string"` // of the entry
	Size          uint64            `json:"size,string"`  // of the checkpoint that proves it
	Holds         bool              `json:"holds"`        // no fault was found in it
	Counted       bool              `json:"counted"`      // by the policy
	Why           string            `json:"why"`          // why it is not counted
	Later         bool              `json:"later"`        // than the time in question: it was not judged
	Checks        ChecksReport      `json:"checks"`
}

// TimestampReport is what one time-stamping authority says. Every token of a signature must hold.
type TimestampReport struct {
	Authority string `json:"authority"` // the subject of its certificate; empty: not proven
	Time      string `json:"time"`      // genTime, UTC; proven only if the token holds; empty: it cannot be read
	Accuracy  string `json:"accuracy"`
	Holds     bool   `json:"holds"`
	Why       string `json:"why"` // why it does not hold
}

// ChecksReport says which of the questions about a signature have the answer yes. One that could not be asked to its end, because another failed, has
// not. A signature holds if all have, and nothing contradicts it.
type ChecksReport struct {
	Signature bool `json:"signature"` // the certificate's key has signed exactly this statement, which is about this record
	Identity  bool `json:"identity"`  // key and certificate were the signer's at the proven time
	Time      bool `json:"time"`
	Ledger    bool `json:"ledger"` // entry, place and body
}

// PasskeyReport is the passkey with which the signer's own device has signed the statement, and what binds it to the signer.
type PasskeyReport struct {
	KeyID          string `json:"keyId"`          // SHA-256 of its public key
	RPID           string `json:"rpId"`           // the relying party that it is for
	Pinned         bool   `json:"pinned"`         // the trust file itself binds it
	Entry          uint64 `json:"entry,string"`   // the ledger entry that does, where it is not pinned
	BackupEligible bool   `json:"backupEligible"` // it may be copied to other devices of the signer's; false where it is pinned: not known
}

// PolicyReport says how the policy was evaluated.
type PolicyReport struct {
	Template   string           `json:"template"`
	Digest     string           `json:"sha256"`
	K          int              `json:"k"`
	Needed     string           `json:"-"` // how many must approve, in words
	Requires   string           `json:"requires"`
	Vetoes     bool             `json:"anyRejectionVetoes"`
	Approvers  []ApproverReport `json:"approvers"`
	Excluded   []string         `json:"excludedSigners"`
	Approvals  int              `json:"approvals"`
	Rejections int              `json:"rejections"`
	Satisfied  bool             `json:"satisfied"`
}

// ApproverReport is a designated approver and the decision of theirs that counts. Who decided as a member of a group, or as the holder of a
// role, stands after those who are designated.
type ApproverReport struct {
	ID       string `json:"id"` // sgn_…, or group: or role: and a name
	Name     string `json:"name"`
	As       string `json:"as"`       // the group or role that they stand for; empty: they are designated themselves
	Decision string `json:"decision"` // empty: none
}

// CompleteReport is the newest closing seal that holds: the manifest was complete then.
type CompleteReport struct {
	Index   uint64 `json:"index,string"`
	Time    string `json:"time"`
	Outcome string `json:"outcome"`
}

// Differences returns the files that are not as they were signed.
func (r *Report) Differences() []bundle.Difference { return r.differences }

// Judged reports whether signatures and policy were judged: the input could be read so far.
func (r *Report) Judged() bool { return r.judged }

func newReport() *Report {
	return &Report{
		Faults: []Fault{}, Signatures: []SignatureReport{}, Notes: []string{},
		Content: ContentReport{Excluded: []string{}, Roles: map[string]string{}},
		Policy:  PolicyReport{Approvers: []ApproverReport{}, Excluded: []string{}},
	}
}

func recordReport(r manifest.Record, digest manifest.Digest) RecordReport {
	return RecordReport{
		Name: r.Name, Version: r.Version, Title: r.Title, Type: r.Event.Type, Event: r.Event.ID, Digest: digest.String(),
		Environment: r.System.Environment, Access: r.System.Access, Software: r.System.Software,
		Repo: r.Source.Repo, Commit: r.Source.Commit, Branch: r.Source.Branch, Tag: r.Source.Tag,
	}
}

func signatureReport(s manifest.Signature) SignatureReport {
	p := s.Statement.Predicate
	return SignatureReport{
		Signer: p.Signer.ID, Name: p.Signer.Name, Title: p.Signer.Title, Organisation: p.Signer.Organisation,
		Decision: p.Decision, Activity: p.Activity.ID, Meaning: p.Meaning.ID, MeaningText: p.Meaning.Text,
		Reason: p.Reason, Statement: p.Statement,
		Authorization: string(s.Authorization.Kind), Zone: p.Zone.Name, Offset: p.Zone.Offset,
		Timestamps: []TimestampReport{}, Algorithm: s.Signature.Algorithm, KeyID: s.Signature.KeyID, Origin: p.Ledger.Origin,
	}
}

func policyReport(p manifest.Policy) PolicyReport {
	r := PolicyReport{
		Template: p.Template.ID, Digest: p.Template.Digest.SHA256.String(), K: p.Resolved.K, Requires: string(p.Resolved.Requires),
		Vetoes: p.Resolved.AnyRejectionVetoes, Needed: p.Resolved.Needed(), Approvers: []ApproverReport{},
		Excluded: append([]string{}, p.Resolved.ExcludedSigners...),
	}
	for _, a := range p.Resolved.Approvers {
		r.Approvers = append(r.Approvers, ApproverReport{ID: a.ID, Name: a.Name})
	}
	return r
}
