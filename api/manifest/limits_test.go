package manifest_test

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey/passkeytest"
)

const turned = "a\u202eb" // text that changes its direction

// names returns n different names.
func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%04d", prefix, i)
	}
	return out
}

// refused holds a table of changes to a value that is read: each must be refused, in one sentence that the reader knows.
func refused[T any](t *testing.T, valid func() T, read func([]byte) error, changes map[string]func(*T)) {
	t.Helper()
	encode := func(v T) []byte {
		b, err := jcs.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := read(encode(valid())); err != nil {
		t.Fatalf("the valid one: %v", err)
	}
	for name, change := range changes {
		v := valid()
		change(&v)
		if err := read(encode(v)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reader is a parser of which only the error counts.
func reader[T any](parse func(jsontext.Value) (T, error)) func([]byte) error {
	return func(b []byte) error { _, err := parse(b); return err }
}

// The bodies of entries are what a verifier decides by: none is read whose members are not what they say.
func TestBodiesRefused(t *testing.T) {
	const bad = "abc"
	t.Run("signature.created", func(t *testing.T) {
		refused(t, func() manifest.SignatureCreated {
			body, err := manifest.BodyOf(full(t).Signatures[0])
			if err != nil {
				t.Fatal(err)
			}
			return body
		}, reader(manifest.ParseSignatureCreated), map[string]func(*manifest.SignatureCreated){
			"no certificates":         func(s *manifest.SignatureCreated) { s.Certificates = []manifest.Digest{} },
			"17 certificates":         func(s *manifest.SignatureCreated) { s.Certificates = make([]manifest.Digest, 17) },
			"no time-stamps":          func(s *manifest.SignatureCreated) { s.Timestamps = []manifest.Digest{} },
			"9 time-stamps":           func(s *manifest.SignatureCreated) { s.Timestamps = make([]manifest.Digest, 9) },
			"a bundle of no digest":   func(s *manifest.SignatureCreated) { s.Bundle = bad },
			"an event that is none":   func(s *manifest.SignatureCreated) { s.Event = bad },
			"a key without id":        func(s *manifest.SignatureCreated) { s.KeyID = "" },
			"a signer that is nobody": func(s *manifest.SignatureCreated) { s.Signer = "ada" },
		})
	})
	t.Run("signer.enrolled", func(t *testing.T) {
		refused(t, func() manifest.SignerEnrolled {
			return manifest.SignerEnrolled{
				Accountability: "1", Certificate: hexSum("c"), Credential: hexSum("p"), ID: "sgn_ada", KeyID: hexSum("k"), Name: "Ada Lovelace",
				Proofing: hexSum("i"), Roles: []string{"signer"}, UserName: "ada", Zone: "Europe/Berlin",
			}
		}, reader(manifest.ParseSignerEnrolled), map[string]func(*manifest.SignerEnrolled){
			"no user name":                   func(s *manifest.SignerEnrolled) { s.UserName = "" },
			"a version that turns text":      func(s *manifest.SignerEnrolled) { s.Accountability = turned },
			"a certificate of no digest":     func(s *manifest.SignerEnrolled) { s.Certificate = bad },
			"a credential of no digest":      func(s *manifest.SignerEnrolled) { s.Credential = bad },
			"a key of no digest":             func(s *manifest.SignerEnrolled) { s.KeyID = bad },
			"a name that turns text":         func(s *manifest.SignerEnrolled) { s.Name = turned },
			"a name with two spaces":         func(s *manifest.SignerEnrolled) { s.Name = "Ada  Lovelace" },
			"an organisation with a tab":     func(s *manifest.SignerEnrolled) { s.Organisation = "a\tb" },
			"a proofing of no digest":        func(s *manifest.SignerEnrolled) { s.Proofing = bad },
			"a role twice":                   func(s *manifest.SignerEnrolled) { s.Roles = []string{"signer", "signer"} },
			"33 roles":                       func(s *manifest.SignerEnrolled) { s.Roles = names("r", 33) },
			"a title that is not in NFC":     func(s *manifest.SignerEnrolled) { s.Title = "Jose\u0301" },
			"a user name that is invisible":  func(s *manifest.SignerEnrolled) { s.UserName = "a\u200bb" },
			"a body larger than an entry is": func(s *manifest.SignerEnrolled) { s.Accountability = strings.Repeat("x", chain.MaxEntry) },
		})
	})
	t.Run("service.enrolled", func(t *testing.T) {
		refused(t, func() manifest.ServiceEnrolled {
			return manifest.ServiceEnrolled{
				Certificate: hexSum("c"), Clients: clients(), ID: "svc_ci", KeyID: hexSum("k"), Name: "CI", Roles: []string{"service"},
			}
		}, reader(manifest.ParseServiceEnrolled), map[string]func(*manifest.ServiceEnrolled){
			"no name":                    func(s *manifest.ServiceEnrolled) { s.Name = "" },
			"a key without certificate":  func(s *manifest.ServiceEnrolled) { s.Certificate = "" },
			"a certificate without key":  func(s *manifest.ServiceEnrolled) { s.KeyID = "" },
			"101 client certificates":    func(s *manifest.ServiceEnrolled) { s.Clients = append(s.Clients, hexSum("one more")) },
			"a client certificate twice": func(s *manifest.ServiceEnrolled) { s.Clients[1] = s.Clients[0] },
			"a client of no digest":      func(s *manifest.ServiceEnrolled) { s.Clients[1] = bad },
			"a certificate of no digest": func(s *manifest.ServiceEnrolled) { s.Certificate = bad },
			"a person":                   func(s *manifest.ServiceEnrolled) { s.ID = "sgn_ada" },
			"a key of no digest":         func(s *manifest.ServiceEnrolled) { s.KeyID = bad },
			"a name that turns text":     func(s *manifest.ServiceEnrolled) { s.Name = turned },
			"an organisation that does":  func(s *manifest.ServiceEnrolled) { s.Organisation = turned },
			"a role that is no id":       func(s *manifest.ServiceEnrolled) { s.Roles = []string{"The Service"} },
		})
	})
	t.Run("signer.revoked", func(t *testing.T) {
		refused(t, func() manifest.SignerRevoked {
			return manifest.SignerRevoked{By: "sgn_bob", ID: "sgn_ada", Reason: "left"}
		}, reader(manifest.ParseSignerRevoked), map[string]func(*manifest.SignerRevoked){
			"by nobody":              func(s *manifest.SignerRevoked) { s.By = "" },
			"by what is no id":       func(s *manifest.SignerRevoked) { s.By = "Bob Example" },
			"of nobody":              func(s *manifest.SignerRevoked) { s.ID = "ada" },
			"of a key of no digest":  func(s *manifest.SignerRevoked) { s.KeyID = bad },
			"a reason with a bell":   func(s *manifest.SignerRevoked) { s.Reason = "a\ab" },
			"a reason without bound": func(s *manifest.SignerRevoked) { s.Reason = strings.Repeat("x", 16001) },
		})
	})
	t.Run("record.superseded", func(t *testing.T) {
		refused(t, func() manifest.RecordSuperseded {
			return manifest.RecordSuperseded{By: event, Event: event, Record: hexSum("r")}
		}, reader(manifest.ParseRecordSuperseded), map[string]func(*manifest.RecordSuperseded){
			"by no event":           func(s *manifest.RecordSuperseded) { s.By = bad },
			"of no event":           func(s *manifest.RecordSuperseded) { s.Event = bad },
			"a record of no digest": func(s *manifest.RecordSuperseded) { s.Record = "" },
		})
	})
	t.Run("accountability.signed", func(t *testing.T) {
		refused(t, func() manifest.AccountabilitySigned {
			return manifest.AccountabilitySigned{
				Certificate: hexSum("c"), ID: "sgn_ada", KeyID: hexSum("k"), Letter: "FDA", Signature: hexSum("s"), Statement: hexSum("t"),
				Timestamp: hexSum("u"), Version: "1",
			}
		}, reader(manifest.ParseAccountabilitySigned), map[string]func(*manifest.AccountabilitySigned){
			"no version":                func(a *manifest.AccountabilitySigned) { a.Version = "" },
			"no certificate":            func(a *manifest.AccountabilitySigned) { a.Certificate = "" },
			"a service":                 func(a *manifest.AccountabilitySigned) { a.ID = "svc_ci" },
			"no key":                    func(a *manifest.AccountabilitySigned) { a.KeyID = "" },
			"a letter that turns text":  func(a *manifest.AccountabilitySigned) { a.Letter = turned },
			"no signature":              func(a *manifest.AccountabilitySigned) { a.Signature = "" },
			"no statement":              func(a *manifest.AccountabilitySigned) { a.Statement = "" },
			"no time-stamp":             func(a *manifest.AccountabilitySigned) { a.Timestamp = "" },
			"a version that turns text": func(a *manifest.AccountabilitySigned) { a.Version = turned },
		})
	})
	t.Run("checkpoint.timestamped", func(t *testing.T) {
		const index = manifest.MaxBracketLag + 10
		read := func(b []byte) error { _, err := manifest.ParseCheckpointTimestamped(b, index); return err }
		for _, size := range []uint64{10, index} { // as far behind as may be, and all that lies before it
			refused(t, func() manifest.CheckpointTimestamped {
				return manifest.CheckpointTimestamped{Size: size, Timestamps: make([]manifest.Digest, manifest.MaxTimestamps)}
			}, read, map[string]func(*manifest.CheckpointTimestamped){
				"of nothing":             func(c *manifest.CheckpointTimestamped) { c.Size = 0 },
				"of itself":              func(c *manifest.CheckpointTimestamped) { c.Size = index + 1 },
				"of too long ago":        func(c *manifest.CheckpointTimestamped) { c.Size = 9 },
				"without a time-stamp":   func(c *manifest.CheckpointTimestamped) { c.Timestamps = []manifest.Digest{} },
				"with nine time-stamps":  func(c *manifest.CheckpointTimestamped) { c.Timestamps = make([]manifest.Digest, 9) },
				"of a size that is huge": func(c *manifest.CheckpointTimestamped) { c.Size = 1 << 63 },
			})
		}
		empty := []byte(`{"checkpoint":"` + hexSum("c") + `","root":"` + hexSum("r") + `","size":"0","timestamps":["` + hexSum("t") + `"]}`)
		if _, err := manifest.ParseCheckpointTimestamped(empty, 5); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("of no entries: %v", err)
		}
	})
	t.Run("role.assigned", func(t *testing.T) {
		at := predicate().PreparedAt
		refused(t, func() manifest.RoleAssigned {
			return manifest.RoleAssigned{End: at.Add(time.Hour), ID: "ras_1", Reason: "r", Role: "auditor", Start: at, Subject: "group:qa"}
		}, reader(manifest.ParseRoleAssigned), map[string]func(*manifest.RoleAssigned){
			"ends as it begins":      func(r *manifest.RoleAssigned) { r.End = r.Start },
			"another id":             func(r *manifest.RoleAssigned) { r.ID = "rol_1" },
			"a reason with a bell":   func(r *manifest.RoleAssigned) { r.Reason = "a\ab" },
			"no role":                func(r *manifest.RoleAssigned) { r.Role = "" },
			"for a service":          func(r *manifest.RoleAssigned) { r.Subject = "svc_ci" },
			"for a nameless group":   func(r *manifest.RoleAssigned) { r.Subject = "group:" },
			"for a group with space": func(r *manifest.RoleAssigned) { r.Subject = "group:q a" },
		})
	})
	t.Run("role.assigned for good", func(t *testing.T) {
		b, err := jcs.Marshal(manifest.RoleAssigned{ID: "ras_1", Reason: "r", Role: "auditor", Start: predicate().PreparedAt, Subject: "sgn_ada"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := manifest.ParseRoleAssigned(b); err != nil {
			t.Error(err)
		}
	})
	t.Run("role.withdrawn", func(t *testing.T) {
		refused(t, func() manifest.RoleWithdrawn {
			return manifest.RoleWithdrawn{ID: "ras_1", Reason: "r", Role: "auditor", Subject: "sgn_ada"}
		}, reader(manifest.ParseRoleWithdrawn), map[string]func(*manifest.RoleWithdrawn){
			"another id":           func(r *manifest.RoleWithdrawn) { r.ID = "rol_1" },
			"a reason with a bell": func(r *manifest.RoleWithdrawn) { r.Reason = "a\ab" },
			"no role":              func(r *manifest.RoleWithdrawn) { r.Role = "" },
			"from a service":       func(r *manifest.RoleWithdrawn) { r.Subject = "svc_ci" },
		})
	})
	t.Run("group.changed", func(t *testing.T) {
		members := func(n int) (out []manifest.GroupMember) {
			for _, id := range names("sgn_", n) {
				out = append(out, manifest.GroupMember{Signer: id})
			}
			return out
		}
		refused(t, func() manifest.GroupChanged {
			return manifest.GroupChanged{
				Added: members(400), DisplayName: "QA", ID: "group:qa", Members: names("sgn_", 400), Reason: "r", Removed: []manifest.GroupMember{{Signer: "sgn_x"}},
			}
		}, reader(manifest.ParseGroupChanged), map[string]func(*manifest.GroupChanged){
			"no group":                    func(g *manifest.GroupChanged) { g.ID = "qa" },
			"a nameless group":            func(g *manifest.GroupChanged) { g.ID = "group:" },
			"401 members":                 func(g *manifest.GroupChanged) { g.Members = names("sgn_", 401) },
			"401 additions":               func(g *manifest.GroupChanged) { g.Added = append(g.Added, g.Added[0]) },
			"401 removals":                func(g *manifest.GroupChanged) { g.Members, g.Added, g.Removed = nil, nil, members(401) },
			"a member that is no person":  func(g *manifest.GroupChanged) { g.Members[0] = "Ada" },
			"members out of order":        func(g *manifest.GroupChanged) { slices.Reverse(g.Members); g.Added = nil },
			"a member twice":              func(g *manifest.GroupChanged) { g.Members[1] = g.Members[0]; g.Added = nil },
			"added, but no member":        func(g *manifest.GroupChanged) { g.Added[0].Signer = "sgn_y" },
			"removed, and still a member": func(g *manifest.GroupChanged) { g.Removed[0].Signer = "sgn_0001" },
			"removed what is no person":   func(g *manifest.GroupChanged) { g.Removed[0].Signer = "Ada" },
			"a name that turns text":      func(g *manifest.GroupChanged) { g.DisplayName = turned },
			"a former name that does":     func(g *manifest.GroupChanged) { g.Was = turned },
			"a reason with a bell":        func(g *manifest.GroupChanged) { g.Reason = "a\ab" },
		})
	})
}

// clients is as many client certificates as a service may have.
func clients() []string {
	out := make([]string, 100)
	for i := range out {
		out[i] = hexSum(fmt.Sprint(i))
	}
	return out
}

// Texts of the statement of accountability are shown to whoever reads it.
func TestAccountabilityRefused(t *testing.T) {
	refused(t, func() manifest.AccountabilityStatement { return accountability(t) }, func(b []byte) error {
		_, err := manifest.ParseAccountability(b)
		return err
	}, map[string]func(*manifest.AccountabilityStatement){
		"another type":                func(s *manifest.AccountabilityStatement) { s.Type = "x" },
		"no user name":                func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.UserName = "" },
		"no version":                  func(s *manifest.AccountabilityStatement) { s.Predicate.Version, s.Subject[0].Name = "", "" },
		"no text":                     func(s *manifest.AccountabilityStatement) { *s = saying(s, "") },
		"no time":                     func(s *manifest.AccountabilityStatement) { s.Predicate.SignedAt = manifest.Time{} },
		"two subjects":                func(s *manifest.AccountabilityStatement) { s.Subject = append(s.Subject, s.Subject[0]) },
		"no certificate":              func(s *manifest.AccountabilityStatement) { s.Predicate.Certificate = "" },
		"a name that turns text":      func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.Name = turned },
		"an organisation that does":   func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.Organisation = turned },
		"a role twice":                func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.Roles = []string{"a", "a"} },
		"a title that turns text":     func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.Title = turned },
		"a user name that turns text": func(s *manifest.AccountabilityStatement) { s.Predicate.Signer.UserName = turned },
		"a text that does":            func(s *manifest.AccountabilityStatement) { *s = saying(s, turned) },
		"a version that does": func(s *manifest.AccountabilityStatement) {
			s.Predicate.Version, s.Subject[0].Name = turned, turned
		},
	})
}

// saying is a statement of another text, of which its subject is the digest.
func saying(s *manifest.AccountabilityStatement, text string) manifest.AccountabilityStatement {
	p := s.Predicate
	p.Statement = text
	other, _ := manifest.NewAccountability(p) // it is refused there already
	return other
}

// What a statement and a record say has bounds, and each of their texts can be seen.
func TestTextsRefused(t *testing.T) {
	many := func(n int) map[string]string {
		out := map[string]string{}
		for _, name := range names("f", n) {
			out[name] = strings.Repeat("0a", 20)
		}
		return out
	}
	t.Run("statement", func(t *testing.T) {
		refused(t, func() manifest.Statement { return statement(t) }, func(b []byte) error {
			_, err := manifest.ParseStatement(b)
			return err
		}, map[string]func(*manifest.Statement){
			"three subjects":                  func(s *manifest.Statement) { s.Subject = slices.Insert(s.Subject, 1, s.Subject[0]) },
			"one subject, not the record":     func(s *manifest.Statement) { s.Subject = s.Subject[:1] },
			"a record without a name":         func(s *manifest.Statement) { s.Subject = s.Subject[1:]; s.Subject[0].Name = "#record" },
			"a meaning that turns text":       func(s *manifest.Statement) { s.Predicate.Meaning.Text = turned },
			"a meaning that is no id":         func(s *manifest.Statement) { s.Predicate.Meaning.ID = "Release Approval" },
			"an attestation that turns text":  func(s *manifest.Statement) { s.Predicate.Statement = turned },
			"an organisation that turns text": func(s *manifest.Statement) { s.Predicate.Signer.Organisation = turned },
			"33 roles":                        func(s *manifest.Statement) { s.Predicate.Signer.Roles = names("r", 33) },
			"a name of 257 bytes":             func(s *manifest.Statement) { s.Predicate.Signer.Name = strings.Repeat("x", 257) },
			"an attempt beyond 32 bits":       func(s *manifest.Statement) { s.Predicate.Activity = manifest.Activity{ID: "x", Attempt: "4294967296"} },
			"an offset that is short":         func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+1:00" },
			"no offset":                       func(s *manifest.Statement) { s.Predicate.Zone.Offset = "" },
			"an offset of another sign":       func(s *manifest.Statement) { s.Predicate.Zone.Offset = "x01:00" },
			"an offset without colon":         func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+01.00" },
			"an offset of 60 minutes":         func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+01:60" },
			"an offset of 19 hours":           func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+19:00" },
			"an offset in letters":            func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+a1:00" },
			"another offset in letters":       func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+0a:00" },
			"an offset with an odd tenth":     func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+01:/0" },
			"an offset with an odd minute":    func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+01:0:" },
			"1,001 inputs": func(s *manifest.Statement) {
				for _, name := range names("i", 1001) {
					s.Predicate.Inputs = append(s.Predicate.Inputs, manifest.Input{Name: name, Value: jsontext.Value("1")})
				}
			},
		})
		long := predicate()
		for _, name := range names("i", 20) {
			long.Inputs = append(long.Inputs, manifest.Input{Name: name, Value: jsontext.Value(`"` + strings.Repeat("x", 60<<10) + `"`)})
		}
		s, err := manifest.NewStatement(record(t), long)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Canonical(); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("over 1 Mi written: %v", err)
		}
		if b, err := jcs.Marshal(s); err != nil || len(b) <= manifest.MaxStatement {
			t.Fatal(len(b), err)
		} else if _, err := manifest.ParseStatement(b); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("over 1 Mi read: %v", err)
		}
	})
	t.Run("record", func(t *testing.T) {
		refused(t, func() manifest.Record { return record(t) }, func(b []byte) error { _, err := manifest.ParseRecord(b); return err }, map[string]func(*manifest.Record){
			"negative files":                  func(r *manifest.Record) { r.Bundle.Files, r.Bundle.Roles = -1, nil },
			"a bundle of bytes alone":         func(r *manifest.Record) { r.Bundle = manifest.BundleRef{Bytes: 1} },
			"a bundle of files alone":         func(r *manifest.Record) { r.Bundle = manifest.BundleRef{Files: 1} },
			"a bundle of a digest alone":      func(r *manifest.Record) { r.Bundle = manifest.BundleRef{Digest: r.Bundle.Digest} },
			"a role of no file":               func(r *manifest.Record) { r.Bundle.Roles = map[string]string{"": "x"} },
			"a role of a file that turns":     func(r *manifest.Record) { r.Bundle.Roles = map[string]string{turned: "x"} },
			"1,001 trees":                     func(r *manifest.Record) { r.Source.Trees = many(1001) },
			"a tree of no path":               func(r *manifest.Record) { r.Source.Trees = map[string]string{"": strings.Repeat("0a", 20)} },
			"a tree of a path that turns":     func(r *manifest.Record) { r.Source.Trees = map[string]string{turned: strings.Repeat("0a", 20)} },
			"a repository that turns text":    func(r *manifest.Record) { r.Source.Repo = turned },
			"a branch that turns text":        func(r *manifest.Record) { r.Source.Branch = turned },
			"a tag that turns text":           func(r *manifest.Record) { r.Source.Tag = turned },
			"1,001 gates":                     func(r *manifest.Record) { r.Readiness.Gates = gates(r.Readiness.Gates[0], 1001) },
			"1,001 blockers":                  func(r *manifest.Record) { r.Readiness.Blockers = blockers(1001) },
			"1,001 inputs of a gate":          func(r *manifest.Record) { r.Readiness.Gates[0].Inputs = make([]manifest.GateInput, 1001) },
			"an evaluator that turns text":    func(r *manifest.Record) { r.Readiness.Gates[0].Evaluator.Version = turned },
			"a blocker that is no id":         func(r *manifest.Record) { r.Readiness.Blockers[0].ID = "Ticket 7" },
			"a blocker that turns text":       func(r *manifest.Record) { r.Readiness.Blockers[0].Title = turned },
			"cleared in words that turn":      func(r *manifest.Record) { r.Readiness.Blockers[0].Cleared.Reason = turned },
			"1,001 approvers":                 func(r *manifest.Record) { r.Policy.Resolved.Approvers = approvers(1001) },
			"1,001 excluded signers":          func(r *manifest.Record) { r.Policy.Resolved.ExcludedSigners = names("sgn_", 1001) },
			"1,001 exclusions":                func(r *manifest.Record) { r.Policy.Resolved.Exclusions = names("f", 1001) },
			"software that turns text":        func(r *manifest.Record) { r.System.Software = turned },
			"documents of no digest":          func(r *manifest.Record) { r.System.Documents = "abc" },
			"a strategy of no digest":         func(r *manifest.Record) { r.System.Strategy = "abc" },
			"an event with other letters":     func(r *manifest.Record) { r.Event.ID = strings.Replace(event, "c1f0", "C1F0", 1) },
			"a version with a space":          func(r *manifest.Record) { r.Version = "v0.1.0-a b" },
			"a version of 66 bytes":           func(r *manifest.Record) { r.Version = "v0.1.0-" + strings.Repeat("x", 59) },
			"a version of no number":          func(r *manifest.Record) { r.Version = "v0..0" },
			"a pre-release of two numbers":    func(r *manifest.Record) { r.Version = "v0.1-rc" },
			"a document's version of 65":      func(r *manifest.Record) { r.Event.Type, r.Version = "document", strings.Repeat("x", 65) },
			"a document's version in a brace": func(r *manifest.Record) { r.Event.Type, r.Version = "document", "{1}" },
			"a document's version in a caret": func(r *manifest.Record) { r.Event.Type, r.Version = "document", "^1" },
			"a document's version in a colon": func(r *manifest.Record) { r.Event.Type, r.Version = "document", ":1" },
		})
		r := record(t)
		r.Policy.Resolved.Approvers, r.Policy.Resolved.ExcludedSigners, r.Policy.Resolved.Exclusions = approvers(1000), names("sgn_", 1000), names("f", 1000)
		r.Readiness.Blockers, r.Readiness.Gates, r.Source.Trees = blockers(1000), gates(r.Readiness.Gates[0], 1000), many(1000)
		if err := r.Validate(); err != nil {
			t.Errorf("a thousand of each: %v", err)
		}
		for name, change := range map[string]func(*manifest.Record){
			"approvers that are not counted": func(r *manifest.Record) {
				r.Policy.Resolved.Approvers, r.Policy.Resolved.K = []manifest.Approver{{ID: "role:lead", Name: "L"}, {ID: "group:qa", Name: "Q"}}, 3
			},
			"a closed system":      func(r *manifest.Record) { r.System.Access = manifest.Closed },
			"an open system":       func(r *manifest.Record) { r.System.Access = manifest.Open },
			"a tree in SHA-256":    func(r *manifest.Record) { r.Source.Trees = map[string]string{"src": hexSum("x")} },
			"a version of letters": func(r *manifest.Record) { r.Event.Type, r.Version = "document", "azAZ09._-" },
			"a thousand inputs":    func(r *manifest.Record) { r.Readiness.Gates[0].Inputs = make([]manifest.GateInput, 1000) },
			"a bundle of no files": func(r *manifest.Record) { r.Bundle.Bytes, r.Bundle.Files, r.Bundle.Roles = 0, 0, nil },
			"an uncleared blocker": func(r *manifest.Record) { r.Readiness.Blockers[0].Cleared = manifest.Clearance{} },
		} {
			r := record(t)
			if change(&r); r.Validate() != nil {
				t.Errorf("%s: %v", name, r.Validate())
			}
		}
		for _, version := range []string{"v0.1.0-a-b.1", "v0.1.0-" + strings.Repeat("x", 58)} {
			r := record(t)
			if r.Version = version; r.Validate() != nil {
				t.Errorf("version %s: %v", version, r.Validate())
			}
		}
	})
}

func gates(g manifest.Gate, n int) (out []manifest.Gate) {
	for _, id := range names("g", n) {
		g.ID = id
		out = append(out, g)
	}
	return out
}

func blockers(n int) (out []manifest.Blocker) {
	for _, id := range names("b", n) {
		out = append(out, manifest.Blocker{ID: id})
	}
	return out
}

func approvers(n int) (out []manifest.Approver) {
	for _, id := range names("sgn_", n) {
		out = append(out, manifest.Approver{ID: id, Name: "A"})
	}
	return out
}

// A statement is about one record, with its bundle or without, of one event.
func TestAbout(t *testing.T) {
	s, r := statement(t), record(t)
	other := s
	other.Predicate.Event = strings.Replace(event, "1111", "1112", 1)
	if other.About(r) == nil {
		t.Error("it is about another event")
	}
	short := s
	short.Subject = s.Subject[1:]
	if short.About(r) == nil {
		t.Error("it says nothing of the bundle")
	}
}

// The approver for whom a signature stands: the person before a group or a role, and the first of these.
func TestApprover(t *testing.T) {
	belongs := func(group string) bool { return group == "group:qa" }
	policy := func(ids ...string) (p manifest.ResolvedPolicy) {
		for _, id := range ids {
			p.Approvers = append(p.Approvers, manifest.Approver{ID: id})
		}
		return p
	}
	for _, x := range []struct {
		policy manifest.ResolvedPolicy
		want   string
		open   bool
		needed string
	}{
		{policy("sgn_bob", "sgn_ada"), "sgn_ada", false, "1 of 2"},
		{policy("group:qa", "role:lead", "sgn_ada"), "sgn_ada", true, "1"},
		{policy("role:lead", "group:qa"), "role:lead", true, "1"},
		{policy("group:qa", "role:lead"), "group:qa", true, "1"},
		{policy("group:dev", "role:chief", "sgn_bob"), "", true, "1"},
		{policy("sgn_bob"), "", false, "1 of 1"},
	} {
		x.policy.K = 1
		if got := x.policy.Approver("sgn_ada", []string{"lead"}, belongs); got != x.want {
			t.Errorf("%v: %q, want %q", x.policy.Approvers, got, x.want)
		}
		if x.policy.Open() != x.open || x.policy.Needed() != x.needed {
			t.Errorf("%v: open %v, %s needed", x.policy.Approvers, x.policy.Open(), x.policy.Needed())
		}
	}
	one := manifest.Activity{ID: "x", Attempt: "9"}
	two := manifest.Activity{ID: "x", Attempt: "10"}
	if one.Attempts(two) != -1 || two.Attempts(one) != 1 || one.Attempts(one) != 0 {
		t.Error("attempts are ordered as numbers")
	}
}

// A manifest takes nothing away, whoever has signed what it says.
func TestExtendsRefused(t *testing.T) {
	for name, change := range map[string]func(old, m *manifest.Manifest){
		"another ledger's checkpoint": func(_, m *manifest.Manifest) {
			m.Signatures[0].Ledger.Proof = strings.ReplaceAll(proof(t, ledgerKey, 60, ""), "signet.example/ledger", "signet.example/other")
		},
		"another root of the size": func(_, m *manifest.Manifest) {
			p, err := chain.ParseProof([]byte(m.Signatures[0].Ledger.Proof))
			if err != nil {
				t.Fatal(err)
			}
			old := chain.Checkpoint{Root: chain.Hash{50}}.Text()
			other := chain.Checkpoint{Root: chain.Hash{51}}.Text()
			p.Checkpoint = bytes.Replace(p.Checkpoint, []byte(strings.Split(old, "\n")[2]), []byte(strings.Split(other, "\n")[2]), 1)
			m.Signatures[0].Ledger.Proof = string(p.Encode())
		},
		"a signature that is none": func(_, m *manifest.Manifest) { m.Signatures[0].Authorization.Kind = "x" },
		"where a signature is none": func(old, m *manifest.Manifest) {
			old.Signatures[0].Authorization.Kind = "x"
		},
		"where none is one": func(old, m *manifest.Manifest) {
			old.Signatures[0].Authorization.Kind, m.Signatures[0].Authorization.Kind = "x", "x"
		},
	} {
		old, m := full(t), full(t)
		change(&old, &m)
		if err := m.Extends(old); !errors.Is(err, manifest.ErrReplaces) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Bounds that keep a reader from work without end.
func TestMembersRefused(t *testing.T) {
	for name, change := range map[string]func(*manifest.Manifest){
		"4,001 supporting entries": func(m *manifest.Manifest) { m.Support = slices.Repeat(m.Support, 4001) },
		"a certificate over 64 Ki": func(m *manifest.Manifest) { m.Signatures[0].Certificates = [][]byte{make([]byte, 64<<10+1)} },
		"an empty time-stamp":      func(m *manifest.Manifest) { m.Signatures[0].Timestamps = [][]byte{{}} },
		"a proof over 128 Ki":      func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = strings.Repeat("x", 128<<10+1) },
		"a passkey without an assertion": func(m *manifest.Manifest) {
			m.Signatures[0].Authorization.Kind = manifest.AuthorizationPasskey
		},
		"a password and an assertion": func(m *manifest.Manifest) { m.Signatures[0].Authorization.Signature = []byte{1} },
		"an invalid statement":        func(m *manifest.Manifest) { m.Signatures[0].Statement.Predicate.Reason = "" },
	} {
		m := full(t)
		change(&m)
		if err := m.Validate(); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := full(t)
	m.Signatures[0].Certificates, m.Signatures[0].Timestamps = some(16), some(8)
	m.Signatures[0].Certificates[0], m.Signatures[0].Timestamps[0] = make([]byte, 64<<10), make([]byte, 64<<10)
	m.Support = slices.Repeat(m.Support, 4000)
	if err := m.Validate(); err != nil {
		t.Errorf("as much as there may be: %v", err)
	}
	for name, a := range map[string]manifest.Authorization{
		"both": {Kind: manifest.AuthorizationPasswordPasskey},
		"large": {
			Kind: manifest.AuthorizationPasskey, AuthenticatorData: make([]byte, 64<<10+1), ClientDataJSON: []byte{1}, CredentialID: []byte{1}, Signature: []byte{1},
		},
	} {
		if err := a.Validate(); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := manifest.ParseAuthorization([]byte(`{"authenticatorData":"A\nQ","clientDataJSON":"e30","credentialId":"_w","kind":"passkey","signature":"Ag"}`)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("base64url with a line feed: %v", err)
	}
	for _, kinds := range [][2]manifest.AuthorizationKind{{"password+service", "password"}, {"password", "pass"}, {"iris", "iris"}} {
		if kinds[0].Covers(kinds[1]) {
			t.Errorf("%s covers %s", kinds[0], kinds[1])
		}
	}
}

func some(n int) [][]byte { return slices.Repeat([][]byte{{1}}, n) }

// A pinned passkey is where every later one comes from.
func TestPinnedPasskeysRefused(t *testing.T) {
	device, err := passkeytest.New(passkeytest.ES256, "sign.example", "https://sign.example")
	if err != nil {
		t.Fatal(err)
	}
	pinned := func() manifest.Trust {
		x := trust(t)
		x.Passkeys = []manifest.TrustPasskey{{
			CredentialID: device.CredentialID, Name: "Ada Lovelace", Origins: []string{device.Origin}, RPID: device.RPID, Signer: "sgn_ada", SPKI: device.SPKI,
		}}
		return x
	}
	refused(t, pinned, func(b []byte) error { _, err := manifest.ParseTrust(b); return err }, map[string]func(*manifest.Trust){
		"no id":                  func(x *manifest.Trust) { x.Passkeys[0].CredentialID = nil },
		"an id of 1,024 bytes":   func(x *manifest.Trust) { x.Passkeys[0].CredentialID = make([]byte, 1024) },
		"no name":                func(x *manifest.Trust) { x.Passkeys[0].Name = "" },
		"a name that turns text": func(x *manifest.Trust) { x.Passkeys[0].Name = turned },
		"a service's":            func(x *manifest.Trust) { x.Passkeys[0].Signer = "svc_ci" },
		"no key":                 func(x *manifest.Trust) { x.Passkeys[0].SPKI = nil },
		"no origin":              func(x *manifest.Trust) { x.Passkeys[0].Origins = nil },
		"another's origin":       func(x *manifest.Trust) { x.Passkeys[0].Origins = []string{"https://evil.example"} },
		"no relying party":       func(x *manifest.Trust) { x.Passkeys[0].RPID = "" },
	})
	x := pinned()
	x.Passkeys[0].CredentialID = make([]byte, 1023)
	if err := x.Validate(); err != nil {
		t.Errorf("an id of 1,023 bytes: %v", err)
	}
}

// The trust file is what everything else is held against.
func TestTrustRefused(t *testing.T) {
	for name, change := range map[string]func(*manifest.Trust){
		"issuer with a fragment":    func(x *manifest.Trust) { x.Issuer += "#x" },
		"issuer without a host":     func(x *manifest.Trust) { x.Issuer = "https:///x" },
		"issuer in another form":    func(x *manifest.Trust) { x.Issuer = "HTTPS://sign.example" },
		"issuer with a control":     func(x *manifest.Trust) { x.Issuer = "https://sign.example/\x7f" },
		"issuer over 1,024 bytes":   func(x *manifest.Trust) { x.Issuer += "/" + strings.Repeat("x", 1024) },
		"1,001 revoked keys":        func(x *manifest.Trust) { x.Revoked = slices.Repeat(x.Revoked, 1001) },
		"a name that turns text":    func(x *manifest.Trust) { x.Name = turned },
		"a seal's authorization":    func(x *manifest.Trust) { x.Policies[0].Requires = manifest.AuthorizationService },
		"a witness policy of 64 Ki": func(x *manifest.Trust) { x.Ledgers[0].WitnessPolicy = strings.Repeat("#", 64<<10+1) },
		"a huge root":               func(x *manifest.Trust) { x.SignerRoots[0].Certificate = make([]byte, 64<<10+1) },
		"windows that overlap by one": func(x *manifest.Trust) {
			x.Ledgers[0].ToSize = "10"
			x.Ledgers = append(x.Ledgers, x.Ledgers[0])
			x.Ledgers[1].FromSize, x.Ledgers[1].ToSize = 9, ""
		},
		"an older window that overlaps": func(x *manifest.Trust) {
			x.Ledgers[0].FromSize = 9
			x.Ledgers = append(x.Ledgers, x.Ledgers[0])
			x.Ledgers[1].FromSize, x.Ledgers[1].ToSize = 0, "10"
		},
		"a size that is no number": func(x *manifest.Trust) { x.Ledgers[0].ToSize = "many" },
	} {
		x := trust(t)
		change(&x)
		if err := x.Validate(); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	type window struct {
		from uint64
		to   string
	}
	for name, windows := range map[string][2]window{"one after the other": {{0, "10"}, {10, ""}}, "the other way": {{10, ""}, {0, "10"}}} {
		x := trust(t)
		x.Ledgers = append(x.Ledgers, x.Ledgers[0])
		for i, w := range windows {
			x.Ledgers[i].FromSize, x.Ledgers[i].ToSize = w.from, w.to
		}
		if err := x.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	x := trust(t)
	vkey, _, err := chain.VerifierKey("signet.example/other", ledgerKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	x.Ledgers = append(x.Ledgers, manifest.TrustLedger{Origin: "signet.example/other", VKey: vkey})
	if err := x.Validate(); err != nil {
		t.Errorf("two ledgers: %v", err)
	}
	b, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.ParseTrust(append(b, bytes.Repeat([]byte(" "), manifest.MaxTrust)...)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("over 4 Mi: %v", err)
	}
	broken := manifest.TrustLedger{ToSize: "x"}
	if broken.Holds(0) {
		t.Error("a window that cannot be read holds nothing")
	}
	if (manifest.Root{To: "x"}).Holds(predicate().PreparedAt) {
		t.Error("a root until no time holds nothing")
	}
	if !(manifest.TrustLedger{}).Holds(5) || !(manifest.Root{}).Holds(predicate().PreparedAt) {
		t.Error("a window without an end holds")
	}
}
