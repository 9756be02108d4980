package identity

import (
	"encoding/json/v2"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/rights"
)

// Who takes an administrator or security officer away alone cannot keep that from the security unit, and not acknowledge it either.
func TestOversightReduced(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	root, _, ada := f.ada()
	alan := f.enrol(root, "alan", "Alan Turing", secondPass, RoleSigner)
	officer := f.enrol(root, "olga", "Olga Officer", adaPass, RoleSecurityOfficer)
	other := f.enrol(root, "root2", "Second Administrator", secondPass, RoleAdministrator) // four eyes are on
	second, ctx := f.login("root2", secondPass), t.Context()
	if _, _, err := f.d.PutGroup(ctx, root, rights.Group{Name: "csirt", DisplayName: "CSIRT"}, "the team"); err != nil {
		t.Fatal(err)
	}
	_, p, err := f.d.AssignRole(ctx, root, rights.Assignment{Holder: rights.HolderOfGroup("csirt"), Role: string(RoleSecurityOfficer), Reason: "they hear of attacks"})
	if err != nil {
		t.Fatal(err)
	}
	f.confirm(second, p, "root2", secondPass)
	g := must(f.d.Group(ctx, "csirt"))
	g.Members = []string{alan.ID}
	if _, p, err = f.d.PutGroup(ctx, root, g, "joins"); err != nil {
		t.Fatal(err)
	}
	f.confirm(second, p, "root2", secondPass)
	later := rights.Assignment{Holder: rights.Holder(ada.ID), Role: string(RoleSecurityOfficer), Reason: "next year", Start: f.clock.Now().AddDate(1, 0, 0)}
	if _, p, err = f.d.AssignRole(ctx, root, later); err != nil {
		t.Fatal(err)
	}
	f.confirm(second, p, "root2", secondPass)

	for _, test := range []struct {
		name string
		do   func() error
		says string // empty: no alert
	}{
		{"a signer is suspended, whose role has not begun", func() error { _, err := f.d.Suspend(ctx, second, ada.ID, "r"); return err }, ""},
		{"a security officer", func() error { _, err := f.d.Suspend(ctx, second, officer.ID, "r"); return err },
			"alone has suspended Olga Officer (olga), who had the role security_officer"},
		{"whoever is suspended already oversees nothing", func() error { _, err := f.d.Revoke(ctx, second, officer.ID, "r", CauseOther); return err }, ""},
		{"somebody with the role through a group", func() error { _, err := f.d.Suspend(ctx, second, alan.ID, "r"); return err },
			"alone has suspended Alan Turing (alan), who had the role security_officer"},
		{"out of the group", func() error {
			g := must(f.d.Group(ctx, "csirt"))
			g.Members = nil
			_, _, err := f.d.PutGroup(ctx, second, g, "r")
			return err
		}, "alone has taken Alan Turing (alan) out of the group csirt, which has the role security_officer"},
		{"the group's role", func() error {
			list, _, err := f.d.RoleAssignments(ctx, rights.Place{Assigned: true}, 10)
			if err != nil {
				return err
			}
			return f.d.WithdrawRole(ctx, second, list[0].ID, "", "", "r")
		}, "alone has withdrawn the role security_officer from group:csirt"},
		{"a role that has not begun", func() error {
			list, _, err := f.d.RoleAssignments(ctx, rights.Place{Assigned: true}, 10)
			if err != nil {
				return err
			}
			return f.d.WithdrawRole(ctx, second, list[0].ID, "", "", "r")
		}, ""},
		{"an administrator's role", func() error { return f.d.WithdrawRole(ctx, second, "", root.ID, RoleAdministrator, "r") },
			"alone has withdrawn the role administrator from "},
	} {
		t.Run(test.name, func(t *testing.T) {
			from := f.ledger.Size()
			if err := test.do(); err != nil {
				t.Fatal(err)
			}
			entries, said := f.entries(from), ""
			for i, e := range entries {
				if e.Type != chain.AlertRaised {
					continue
				}
				var body struct {
					Audience, Entry, Kind, Subject, Summary string
				}
				if err := json.Unmarshal(e.Body, &body, json.MatchCaseInsensitiveNames(true)); err != nil {
					t.Fatal(err)
				}
				said += body.Summary
				if body.Audience != "security" || body.Kind != AlertOversight || body.Subject != other.ID || i == 0 {
					t.Errorf("%+v", body)
				}
			}
			if !strings.Contains(said, test.says) || (test.says == "") != (said == "") {
				t.Errorf("it says %q", said)
			}
			if test.says != "" && !strings.HasPrefix(said, "Second Administrator (root2) alone has ") {
				t.Errorf("it says %q", said)
			}
		})
	}
}
