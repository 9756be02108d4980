package verify_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// group is an entry that says who belongs to the group qa from then on.
func (w *world) group(members ...string) {
	b := manifest.GroupChanged{Added: []manifest.GroupMember{}, ID: "group:qa", Members: append([]string{}, members...), Reason: "r", Removed: []manifest.GroupMember{}}
	w.support = append(w.support, w.append(chain.GroupChanged, b))
}

// bothSay holds the verdict of both verifiers against what is wanted.
func (w *world) bothSay(t *testing.T, want verify.Code) *verify.Report {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	second, err := filepath.Abs("../../clients/python/signet_verify.py")
	if err != nil {
		t.Fatal(err)
	}
	m := w.manifest()
	r := w.verify(m)
	if r.Code != want {
		t.Errorf("verdict %d, want %d: %v", r.Code, want, r.Faults)
	}
	dir := t.TempDir()
	for file, content := range map[string][]byte{"manifest.json": encode(t, m), "trust.json": w.trustFile()} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), python, second, "--trust", filepath.Join(dir, "trust.json"), "--manifest", filepath.Join(dir, "manifest.json")).CombinedOutput()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if code != int(want) {
		t.Errorf("the second verifier: %d, want %d\n%s", code, want, strings.TrimSpace(string(out)))
	}
	return r
}

// What has changed a signer's roles since the enrolment must stand among the proved entries, before the signature. Both verifiers agree.
func TestRolesSinceTheEnrolment(t *testing.T) {
	t.Attr("requirement", "C-64")
	t.Attr("requirement", "11.10(a)")
	give := func(w *world, change func(*manifest.RoleAssigned)) {
		b := manifest.RoleAssigned{ID: "ras_1", Reason: "r", Role: "auditor", Subject: "sgn_ada"}
		if change != nil {
			change(&b)
		}
		w.support = append(w.support, w.append(chain.RoleAssigned, b))
	}
	take := func(w *world, b manifest.RoleWithdrawn) {
		b.Reason = "r"
		w.support = append(w.support, w.append(chain.RoleWithdrawn, b))
	}
	group := func(w *world, members ...string) { w.group(members...) }
	toGroup := func(b *manifest.RoleAssigned) { b.Subject = "group:qa" }
	both, asSigner, asAuditor := []string{"auditor", "signer"}, []string{"signer"}, []string{"auditor"}
	for name, x := range map[string]struct {
		enter func(w *world) // before the signature
		after func(w *world)
		roles []string
		want  verify.Code
	}{
		"as enrolled":                        {roles: asSigner},
		"one more, and nothing gave it":      {roles: both, want: verify.Untrusted},
		"one more, given":                    {enter: func(w *world) { give(w, nil) }, roles: both},
		"given, and not stated":              {enter: func(w *world) { give(w, nil) }, roles: asSigner},
		"given after the signature":          {after: func(w *world) { give(w, nil) }, roles: both, want: verify.Untrusted},
		"another role was given":             {enter: func(w *world) { give(w, func(b *manifest.RoleAssigned) { b.Role = "release_manager" }) }, roles: both, want: verify.Untrusted},
		"given to somebody else":             {enter: func(w *world) { give(w, func(b *manifest.RoleAssigned) { b.Subject = "sgn_eve" }) }, roles: both, want: verify.Untrusted},
		"given until a time that has passed": {enter: func(w *world) { give(w, func(b *manifest.RoleAssigned) { b.End = chain.NewTime(w.now) }) }, roles: both, want: verify.Untrusted},
		"given until a time that is to come": {enter: func(w *world) {
			give(w, func(b *manifest.RoleAssigned) { b.End = chain.NewTime(w.now.Add(time.Hour)) })
		}, roles: both},
		"given from a time that is to come": {enter: func(w *world) {
			give(w, func(b *manifest.RoleAssigned) { b.Start = chain.NewTime(w.now.Add(time.Hour)) })
		}, roles: both, want: verify.Untrusted},
		"given, and taken": {enter: func(w *world) {
			give(w, nil)
			take(w, manifest.RoleWithdrawn{ID: "ras_1", Role: "auditor", Subject: "sgn_ada"})
		}, roles: both, want: verify.Untrusted},
		"given, and taken after it":           {enter: func(w *world) { give(w, nil) }, after: func(w *world) { take(w, manifest.RoleWithdrawn{ID: "ras_1", Role: "auditor", Subject: "sgn_ada"}) }, roles: both},
		"given to a group of theirs":          {enter: func(w *world) { group(w, "sgn_ada"); give(w, toGroup) }, roles: both},
		"given to a group without members":    {enter: func(w *world) { group(w); give(w, toGroup) }, roles: both, want: verify.Untrusted},
		"given to a group that nothing names": {enter: func(w *world) { give(w, toGroup) }, roles: both, want: verify.Untrusted},
		"given to a group that they left":     {enter: func(w *world) { group(w, "sgn_ada"); give(w, toGroup); group(w) }, roles: both, want: verify.Untrusted},
		"given to a group that they left later": {
			enter: func(w *world) { group(w, "sgn_ada"); give(w, toGroup) }, after: func(w *world) { group(w) }, roles: both,
		},
		"one of the enrolment is left out": {roles: []string{}, want: verify.Untrusted},
		"one of the enrolment was taken":   {enter: func(w *world) { take(w, manifest.RoleWithdrawn{Role: "signer", Subject: "sgn_ada"}); give(w, nil) }, roles: asAuditor},
		"one was taken, and is stated":     {enter: func(w *world) { take(w, manifest.RoleWithdrawn{Role: "signer", Subject: "sgn_ada"}) }, roles: asSigner, want: verify.Untrusted},
		"one was taken from somebody else": {enter: func(w *world) { take(w, manifest.RoleWithdrawn{Role: "signer", Subject: "sgn_eve"}); give(w, nil) }, roles: asAuditor, want: verify.Untrusted},
		"one was taken, and given again": {enter: func(w *world) {
			take(w, manifest.RoleWithdrawn{Role: "signer", Subject: "sgn_ada"})
			give(w, func(b *manifest.RoleAssigned) { b.Role = "signer" })
		}, roles: asSigner},
		"a body with a member too many": {enter: func(w *world) {
			w.support = append(w.support, w.append(chain.RoleWithdrawn, map[string]string{"id": "", "reason": "r", "role": "x", "subject": "sgn_ada", "more": ""}))
		}, roles: asSigner, want: verify.Ledger},
		"members that are not sorted": {enter: func(w *world) { group(w, "sgn_b", "sgn_a") }, roles: asSigner, want: verify.Ledger},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada := w.enrol("sgn_ada", "Ada Lovelace")
			w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Bundle = manifest.BundleRef{} })
			if x.enter != nil {
				x.enter(w)
			}
			w.tick(time.Second)
			w.sign(ada, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Signer.Roles = x.roles }})
			w.close(manifest.OutcomeApproved)
			if x.after != nil {
				x.after(w)
			}
			slices.Sort(w.support)
			w.bothSay(t, x.want)
		})
	}
}
