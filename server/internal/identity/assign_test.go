package identity

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/rights"
)

// twoAdministrators has ada and alan, who sign, and two administrators: four eyes are on.
func twoAdministrators(t *testing.T) (f *fixture, root, second Caller, ada, alan, other Signer) {
	f = newFixture(t)
	root, _, ada = f.ada()
	alan = f.enrol(root, "alan", "Alan Turing", secondPass, RoleSigner)
	other = f.enrol(root, "root2", "Second Administrator", secondPass, RoleAdministrator)
	return f, root, f.login("root2", secondPass), ada, alan, other
}

func (f *fixture) roles(id string) []Role {
	f.t.Helper()
	return must(f.d.Get(f.t.Context(), id)).Roles
}

func TestRightsTakeTwo(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	f, root, second, ada, alan, other := twoAdministrators(t)
	ctx := t.Context()
	t.Run("a role is given by two", func(t *testing.T) {
		_, p, err := f.d.AssignRole(ctx, root, rights.Assignment{Holder: rights.Holder(ada.ID), Role: string(RoleAuditor), Reason: "audit"})
		if err != nil || p == nil || p.Subject != ada.ID {
			t.Fatalf("%v, %v", p, err)
		}
		if got := f.roles(ada.ID); !slices.Equal(got, []Role{RoleSigner}) {
			t.Errorf("proposed, and it holds: %v", got)
		}
		if _, err := f.d.Confirm(ctx, root, p.ID, p.Digest[:], Proof{UserName: "root", Password: adminPass}); !errors.Is(err, ErrSecondPerson) {
			t.Errorf("the proposer confirms: %v", err)
		}
		f.confirm(second, p, "root2", secondPass)
		if got := f.login("ada", adaPass).Roles; !slices.Equal(got, []Role{RoleAuditor, RoleSigner}) {
			t.Errorf("confirmed: %v", got)
		}
	})
	t.Run("and taken by one", func(t *testing.T) {
		list := must(f.d.RoleAssignmentsOf(ctx, ada.ID))
		if len(list) != 2 || list[1].By != second.ID {
			t.Fatalf("%+v", list)
		}
		if err := f.d.WithdrawRole(ctx, root, list[1].ID, "", "", "over"); err != nil {
			t.Fatal(err)
		}
		if got := f.roles(ada.ID); !slices.Equal(got, []Role{RoleSigner}) {
			t.Errorf("%v", got)
		}
	})
	t.Run("somebody joins a group by two, and leaves by one", func(t *testing.T) {
		g, p, err := f.d.PutGroup(ctx, root, rights.Group{Name: "qa", DisplayName: "QA"}, "the team")
		if err != nil || p != nil {
			t.Fatalf("an empty group gives nobody anything: %v, %v", p, err)
		}
		g.Members = []string{ada.ID}
		_, p, err = f.d.PutGroup(ctx, root, g, "the team")
		if err != nil || p == nil {
			t.Fatalf("%v, %v", p, err)
		}
		f.confirm(second, p, "root2", secondPass)
		g = must(f.d.Group(ctx, "qa"))
		if !slices.Equal(g.Members, []string{ada.ID}) {
			t.Fatalf("%+v", g)
		}
		g.Members = nil
		if g, p, err = f.d.PutGroup(ctx, root, g, "moved"); err != nil || p != nil || len(g.Members) != 0 {
			t.Fatalf("%+v, %v, %v", g, p, err)
		}
	})
	t.Run("what was proposed about a group that has changed is refused", func(t *testing.T) {
		g := must(f.d.Group(ctx, "qa"))
		g.Members = []string{ada.ID}
		_, p, err := f.d.PutGroup(ctx, root, g, "the team")
		if err != nil {
			t.Fatal(err)
		}
		renamed := must(f.d.Group(ctx, "qa"))
		renamed.DisplayName = "Quality"
		if _, p, err := f.d.PutGroup(ctx, root, renamed, "its name"); err != nil || p != nil {
			t.Fatal(p, err)
		}
		if _, err := f.d.Confirm(ctx, second, p.ID, p.Digest[:], Proof{UserName: "root2", Password: secondPass}); !errors.Is(err, rights.ErrGroupChanged) {
			t.Errorf("%v", err)
		}
	})
	t.Run("nobody confirms what they gain by", func(t *testing.T) {
		g := must(f.d.Group(ctx, "qa"))
		g.Members = []string{other.ID}
		_, p, err := f.d.PutGroup(ctx, root, g, "the team")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Confirm(ctx, second, p.ID, p.Digest[:], Proof{UserName: "root2", Password: secondPass}); !errors.Is(err, ErrForbidden) {
			t.Errorf("%v", err)
		}
		g.Members = []string{root.ID}
		if _, _, err := f.d.PutGroup(ctx, root, g, "me"); !errors.Is(err, ErrForbidden) {
			t.Errorf("proposed: %v", err)
		}
	})
	t.Run("a designation is narrowed by one, and widened by two", func(t *testing.T) {
		d, p, err := f.d.SetDesignation(ctx, root, rights.Designation{RecordType: "release", Holders: []rights.Holder{rights.Holder(ada.ID)}}, "narrow")
		if err != nil || p != nil {
			t.Fatalf("%v, %v", p, err)
		}
		d.Holders = append(d.Holders, rights.Holder(alan.ID))
		if _, p, err = f.d.SetDesignation(ctx, root, d, "wide"); err != nil || p == nil {
			t.Fatalf("%v, %v", p, err)
		}
		f.confirm(second, p, "root2", secondPass)
		err = f.ledger.View(func(r *ledger.Read) error { return f.d.Admit(r, "release", alan.ID) })
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("whoever searches for a person finds what was changed", func(t *testing.T) {
		found := map[chain.Type]int{}
		for _, e := range f.entries(0) {
			if index.Has(e, index.Key("subject:"+ada.ID)) {
				found[e.Type]++
			}
		}
		for typ, least := range map[chain.Type]int{chain.RoleAssigned: 1, chain.RoleWithdrawn: 1, chain.GroupChanged: 2, chain.DesignationChanged: 2} {
			if found[typ] < least {
				t.Errorf("%d entries of the type %s, want %d", found[typ], typ, least)
			}
		}
	})
	t.Run("who administers without an end stays", func(t *testing.T) {
		_, p, err := f.d.AssignRole(ctx, root, rights.Assignment{
			Holder: rights.Holder(alan.ID), Role: string(RoleAdministrator), End: f.clock.Now().Add(time.Hour), Reason: "holidays",
		})
		if err != nil {
			t.Fatal(err)
		}
		f.confirm(second, p, "root2", secondPass)
		if got := f.roles(alan.ID); !slices.Equal(got, []Role{RoleAdministrator, RoleSigner}) {
			t.Fatalf("%v", got)
		}
		if err := f.d.WithdrawRole(ctx, root, "", other.ID, RoleAdministrator, "moved"); err != nil {
			t.Fatal(err)
		}
		if err := f.d.WithdrawRole(ctx, root, "", root.ID, RoleAdministrator, "moved"); !errors.Is(err, rights.ErrLastAdministrator) {
			t.Errorf("%v", err)
		}
		if _, err := f.d.Suspend(ctx, root, root.ID, "r"); !errors.Is(err, rights.ErrLastAdministrator) {
			t.Errorf("%v", err)
		}
		if _, err := f.d.Suspend(ctx, second, ada.ID, "r"); !errors.Is(err, ErrForbidden) {
			t.Errorf("whose role was withdrawn administers: %v", err)
		}
		if _, err := f.d.ProveOffline(ctx, "root2", secondPass); !errors.Is(err, ErrForbidden) {
			t.Errorf("and offline: %v", err)
		}
		if _, err := f.d.ProveOffline(ctx, "root", adminPass); err != nil {
			t.Error(err)
		}
		f.clock.Add(2 * time.Hour)
		if _, err := f.d.Suspend(ctx, Caller{ID: alan.ID, Kind: chain.Person}, ada.ID, "r"); !errors.Is(err, ErrForbidden) {
			t.Errorf("whose role has ended administers: %v", err)
		}
	})
}

// The second administrator may come by an assignment: four eyes are on from then on.
func TestAnAssignedAdministratorIsASecondOne(t *testing.T) {
	f := newFixture(t)
	root, _, ada := f.ada()
	max, _, _, err := f.d.InvitePerson(t.Context(), root, f.invitation("max", "Max Miller", RoleAuditor), "")
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]struct {
		a    rights.Assignment
		want error
	}{
		"whose code waits": {rights.Assignment{Holder: rights.Holder(max.ID)}, ErrState},
		"with an end":      {rights.Assignment{Holder: rights.Holder(ada.ID), End: f.clock.Now().Add(time.Hour)}, rights.ErrValidity},
		"from tomorrow on": {rights.Assignment{Holder: rights.Holder(ada.ID), Start: f.clock.Now().Add(time.Hour)}, rights.ErrValidity},
	} {
		try.a.Role, try.a.Reason = string(RoleAdministrator), "second"
		if _, _, err := f.d.AssignRole(t.Context(), root, try.a); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, p, err := f.d.AssignRole(t.Context(), root, rights.Assignment{Holder: rights.Holder(ada.ID), Role: string(RoleAdministrator), Reason: "second"}); err != nil || p != nil {
		t.Fatal(p, err)
	}
	if _, p, err := f.d.AssignRole(t.Context(), root, rights.Assignment{Holder: rights.Holder(ada.ID), Role: string(RoleAuditor), Reason: "r"}); err != nil || p == nil {
		t.Fatal(p, err)
	}
}

// A role that was taken away does not come back with a renewal, and one that was given later comes with a key.
func TestRolesAndRenewal(t *testing.T) {
	f := newFixture(t)
	root, _, ada := f.ada()
	max := f.enrol(root, "max", "Max Miller", secondPass, RoleReleaseManager)
	ctx := t.Context()
	renew := func(id, userName string, password Secret) Signer {
		t.Helper()
		_, code, _, err := f.d.Renew(ctx, root, id, Renewal{Reason: "new", Proofing: Proofing{Method: "passport seen in person", Reference: "HR-2"}})
		if err != nil {
			t.Fatal(err)
		}
		return must(f.d.Redeem(ctx, desk, code, userName, password, true))
	}
	if err := f.d.WithdrawRole(ctx, root, "", ada.ID, RoleSigner, "no longer signs"); err != nil {
		t.Fatal(err)
	}
	if got := renew(ada.ID, "ada", wrongPass).Roles; len(got) != 0 {
		t.Errorf("ada has %v", got)
	}
	if _, err := f.identity(ada.ID); !errors.Is(err, ErrNoKey) {
		t.Errorf("ada signs: %v", err)
	}
	if _, _, err := f.d.AssignRole(ctx, root, rights.Assignment{Holder: rights.Holder(max.ID), Role: string(RoleSigner), Reason: "signs now"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.identity(max.ID); !errors.Is(err, ErrNoKey) {
		t.Errorf("max signs without a key: %v", err)
	}
	renew(max.ID, "max", adaPass)
	if by, err := f.identity(max.ID); err != nil || !slices.Equal(by.Roles, []string{string(RoleReleaseManager), string(RoleSigner)}) {
		t.Errorf("%+v, %v", by.Roles, err)
	}
}

// TestTamperedRights: what somebody has written into the file gives nobody a right.
func TestTamperedRights(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	open := func(t *testing.T) (*fixture, Caller, Signer, Signer) {
		f := prepareFixture(t)
		var err error
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.ledger.Close() })
		f.open()
		root, _, ada := f.ada()
		alan := f.enrol(root, "alan", "Alan Turing", secondPass, RoleSigner)
		ctx := t.Context()
		if _, _, err := f.d.AssignRole(ctx, root, rights.Assignment{Holder: rights.Holder(alan.ID), Role: string(RoleAuditor), Reason: "r"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.d.PutGroup(ctx, root, rights.Group{Name: "qa", DisplayName: "QA", Members: []string{alan.ID}}, "r"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.d.AssignRole(ctx, root, rights.Assignment{Holder: rights.HolderOfGroup("qa"), Role: string(RoleReleaseManager), Reason: "r"}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.AttestTraining(ctx, root, rights.Training{Signer: alan.ID, Course: "gxp", Reference: "x", End: f.clock.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.d.SetDesignation(ctx, root, rights.Designation{RecordType: "release", Holders: []rights.Holder{rights.HolderOfGroup("qa")}, Courses: []string{"gxp"}}, "r"); err != nil {
			t.Fatal(err)
		}
		return f, root, ada, alan
	}
	tamper := func(t *testing.T, f *fixture, bucket string, change func(rows map[string][]byte)) {
		t.Helper()
		f.ledger.Close()
		editBucket(t, f.options.Path, []string{"projections", "rights", strconv.Itoa(rights.Projection().Version()), bucket}, change)
		var err error
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		f.open()
	}
	faults := func(t *testing.T, f *fixture) {
		t.Helper()
		f.ledger.Close()
		report, err := ledger.Check(t.Context(), filepath.Clean(f.options.Path), f.options, nil)
		if err == nil && len(report.Faults) == 0 {
			t.Error("the check finds nothing")
		}
	}
	admit := func(f *fixture, id string) error {
		return f.ledger.View(func(r *ledger.Read) error { return f.d.Admit(r, "release", id) })
	}
	t.Run("an assignment of somebody else's", func(t *testing.T) {
		f, _, ada, alan := open(t)
		var id string
		tamper(t, f, "assignments", func(rows map[string][]byte) {
			for k, v := range rows {
				var row map[string]any
				unmarshal(t, v, &row)
				if row["holder"] == alan.ID {
					id = k
					row["holder"] = ada.ID
					rows[k] = marshal(t, row)
				}
			}
		})
		tamper(t, f, "held", func(rows map[string][]byte) { rows[ada.ID+"/"+id] = []byte{} })
		if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, rights.ErrTampered) {
			t.Errorf("log in: %v", err)
		}
		_, err := f.identity(ada.ID)
		if !errors.Is(err, rights.ErrTampered) {
			t.Errorf("%v", err)
		}
		faults(t, f)
	})
	t.Run("another role in the row", func(t *testing.T) {
		f, _, _, alan := open(t)
		tamper(t, f, "assignments", func(rows map[string][]byte) {
			for k, v := range rows {
				var row map[string]any
				unmarshal(t, v, &row)
				if row["holder"] == alan.ID {
					row["role"] = string(RoleAdministrator)
					rows[k] = marshal(t, row)
				}
			}
		})
		if _, err := f.d.Suspend(t.Context(), Caller{ID: alan.ID, Kind: chain.Person}, alan.ID, "r"); !errors.Is(err, rights.ErrTampered) {
			t.Errorf("%v", err)
		}
		faults(t, f)
	})
	t.Run("a longer validity in the row", func(t *testing.T) {
		f, root, ada, _ := open(t)
		if _, _, err := f.d.AssignRole(t.Context(), root, rights.Assignment{
			Holder: rights.Holder(ada.ID), Role: string(RoleAuditor), End: f.clock.Now().Add(time.Minute), Reason: "r",
		}); err != nil {
			t.Fatal(err)
		}
		f.clock.Add(time.Hour)
		tamper(t, f, "assignments", func(rows map[string][]byte) {
			for k, v := range rows {
				var row map[string]any
				unmarshal(t, v, &row)
				if row["holder"] == ada.ID {
					row["end"] = chain.Time{}.String()
					rows[k] = marshal(t, row)
				}
			}
		})
		if by, err := f.identity(ada.ID); err != nil || slices.Contains(by.Roles, string(RoleAuditor)) {
			t.Errorf("%v, %v", by.Roles, err)
		}
		faults(t, f)
	})
	t.Run("a member more in the row", func(t *testing.T) {
		f, _, ada, _ := open(t)
		tamper(t, f, "groups", func(rows map[string][]byte) {
			var row map[string]any
			unmarshal(t, rows["qa"], &row)
			row["members"] = append(row["members"].([]any), ada.ID)
			rows["qa"] = marshal(t, row)
		})
		tamper(t, f, "member", func(rows map[string][]byte) { rows[ada.ID+"/qa"] = []byte{} })
		if by, err := f.identity(ada.ID); err != nil || !slices.Equal(by.Roles, []string{string(RoleSigner)}) {
			t.Errorf("%v, %v", by.Roles, err)
		}
		if err := admit(f, ada.ID); !errors.Is(err, rights.ErrNotDesignated) {
			t.Errorf("%v", err)
		}
		faults(t, f)
	})
	t.Run("a longer training in the row", func(t *testing.T) {
		f, _, _, alan := open(t)
		if err := admit(f, alan.ID); err != nil {
			t.Fatal(err)
		}
		f.clock.Add(2 * time.Hour)
		tamper(t, f, "training", func(rows map[string][]byte) {
			for k, v := range rows {
				var row map[string]any
				unmarshal(t, v, &row)
				row["end"] = "2099-01-01T00:00:00.000Z"
				rows[k] = marshal(t, row)
			}
		})
		if err := admit(f, alan.ID); !errors.Is(err, rights.ErrTraining) {
			t.Errorf("%v", err)
		}
		faults(t, f)
	})
	t.Run("a designation with more holders in the row", func(t *testing.T) {
		f, _, ada, _ := open(t)
		tamper(t, f, "designations", func(rows map[string][]byte) {
			var row map[string]any
			unmarshal(t, rows["release"], &row)
			row["holders"], row["courses"] = []any{}, []any{}
			rows["release"] = marshal(t, row)
		})
		if err := admit(f, ada.ID); !errors.Is(err, rights.ErrNotDesignated) {
			t.Errorf("%v", err)
		}
		faults(t, f)
	})
}

func TestWidens(t *testing.T) {
	state := func(holders []rights.Holder, courses ...string) rights.DesignationState {
		return rights.DesignationState{Holders: holders, Courses: courses}
	}
	a, b := rights.Holder("sgn_a"), rights.Holder("sgn_b")
	for what, tc := range map[string]struct {
		was, to rights.DesignationState
		want    bool
	}{
		"everybody, then one":       {state(nil), state([]rights.Holder{a}), false},
		"one, then everybody":       {state([]rights.Holder{a}), state(nil), true},
		"one, then two":             {state([]rights.Holder{a}), state([]rights.Holder{a, b}), true},
		"two, then one":             {state([]rights.Holder{a, b}), state([]rights.Holder{b}), false},
		"one, then another":         {state([]rights.Holder{a}), state([]rights.Holder{b}), true},
		"a course more":             {state(nil), state(nil, "gxp"), false},
		"a course less":             {state(nil, "gxp"), state(nil), true},
		"another course":            {state(nil, "gxp"), state(nil, "gmp"), true},
		"the same":                  {state([]rights.Holder{a}, "gxp"), state([]rights.Holder{a}, "gxp"), false},
		"fewer, with a course less": {state([]rights.Holder{a, b}, "gxp"), state([]rights.Holder{a}), true},
	} {
		if got := widens(tc.was, tc.to); got != tc.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// The bodies that verifiers read have one encoding, and what cannot be is refused.
func TestRightsBodies(t *testing.T) {
	for what, bad := range map[string]interface{ Validate() error }{
		"an end before the start": manifest.RoleAssigned{ID: "ras_a", Subject: "sgn_a", Role: "auditor", Reason: "r", Start: chain.NewTime(start.Add(time.Hour)), End: chain.NewTime(start)},
		"a holder that is none":   manifest.RoleAssigned{ID: "ras_a", Subject: "svc_a", Role: "auditor", Reason: "r"},
		"no id":                   manifest.RoleAssigned{Subject: "sgn_a", Role: "auditor", Reason: "r"},
		"members out of order":    manifest.GroupChanged{ID: "group:qa", Members: []string{"sgn_b", "sgn_a"}},
		"a member twice":          manifest.GroupChanged{ID: "group:qa", Members: []string{"sgn_a", "sgn_a"}},
		"added, and no member":    manifest.GroupChanged{ID: "group:qa", Added: []manifest.GroupMember{{Signer: "sgn_a"}}},
		"removed, and a member":   manifest.GroupChanged{ID: "group:qa", Members: []string{"sgn_a"}, Removed: []manifest.GroupMember{{Signer: "sgn_a"}}},
		"no group":                manifest.GroupChanged{ID: "sgn_a"},
		"a control character":     manifest.RoleWithdrawn{Subject: "sgn_a", Role: "auditor", Reason: "\x1b[2J"},
	} {
		if err := bad.Validate(); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestNobodyGainsByTheirOwnAct: not even where one administrator is enough, and neither by name nor by a group.
func TestNobodyGainsByTheirOwnAct(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	f := prepareFixture(t)
	f.config.FourEyes = FourEyesOff
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	ctx := t.Context()
	root, _, ada := f.ada()
	mallory := f.enrol(root, "mallory", "Mallory Insider", secondPass, RoleAdministrator, RoleSigner)
	me := f.login("mallory", secondPass)
	qa := rights.HolderOfGroup("qa")
	if _, _, err := f.d.PutGroup(ctx, root, rights.Group{Name: "qa", DisplayName: "QA", Members: []string{mallory.ID}}, "the team"); err != nil {
		t.Fatal(err)
	}
	role := rights.Assignment{Holder: qa, Role: string(RoleReleaseManager), Reason: "releases"}
	if _, _, err := f.d.AssignRole(ctx, me, role); !errors.Is(err, ErrForbidden) {
		t.Errorf("a role for a group of hers: %v", err)
	}
	if _, _, err := f.d.AssignRole(ctx, root, role); err != nil {
		t.Errorf("the same by somebody who does not belong to it: %v", err)
	}
	if _, err := f.d.AttestTraining(ctx, me, rights.Training{Signer: mallory.ID, Course: "gmp", Reference: "x", End: f.clock.Now().Add(time.Hour)}); !errors.Is(err, ErrForbidden) {
		t.Errorf("a training of her own: %v", err)
	}
	set := func(by Caller, courses []string, holders ...rights.Holder) error {
		list := must(f.d.Designations(ctx))
		to := rights.Designation{RecordType: "release", Holders: holders, Courses: courses}
		if len(list) > 0 {
			to.ETag = list[0].ETag
		}
		_, _, err := f.d.SetDesignation(ctx, by, to, "because")
		return err
	}
	if err := set(root, nil, rights.Holder(ada.ID)); err != nil {
		t.Fatal(err)
	}
	for name, holders := range map[string][]rights.Holder{
		"herself": {rights.Holder(ada.ID), rights.Holder(mallory.ID)}, "a group of hers": {rights.Holder(ada.ID), qa}, "everybody": nil,
	} {
		if err := set(me, nil, holders...); !errors.Is(err, ErrForbidden) {
			t.Errorf("she designates %s: %v", name, err)
		}
	}
	if err := set(root, []string{"gmp"}, rights.Holder(ada.ID), qa); err != nil {
		t.Fatal(err)
	}
	if err := set(me, nil, rights.Holder(ada.ID), qa); !errors.Is(err, ErrForbidden) {
		t.Errorf("she drops the course that she lacks: %v", err)
	}
}
