package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// Snapshot is all credentials and rights as they stand: what a person reviews (21 CFR 11.300(b)). In canonical JSON it is one of the files of
// the review; the other one is the same for people.
type Snapshot struct {
	AsOf         chain.Time            `json:"asOf"`
	Assignments  []SnapshotAssignment  `json:"assignments"`
	Designations []SnapshotDesignation `json:"designations"`
	Format       string                `json:"format"`
	Groups       []SnapshotGroup       `json:"groups"`
	Ledger       SnapshotHead          `json:"ledger"`
	People       []SnapshotPerson      `json:"people"`
	Services     []SnapshotService     `json:"services"`
	Training     []SnapshotTraining    `json:"training"`
}

// SnapshotFormat names the format of a snapshot.
const SnapshotFormat = "signet-access-review/v1"

// SnapshotHead is where in the ledger it was written down.
type SnapshotHead struct {
	Root string `json:"root"`
	Size uint64 `json:"size,string"`
}

// SnapshotPerson is a person with credentials and rights.
type SnapshotPerson struct {
	Credentials     []string `json:"credentials"`    // what they prove themselves with, and since when
	EnrolmentRoles  []string `json:"enrolmentRoles"` // that nobody has withdrawn
	ID              string   `json:"id"`
	KeyID           string   `json:"keyId"` // empty without a key
	Name            string   `json:"name"`
	RolesInForce    []string `json:"rolesInForce"`
	State           string   `json:"state"`
	UserName        string   `json:"userName"`
	CertificateEnds string   `json:"certificateEnds"` // empty without a key
}

// SnapshotService is a service.
type SnapshotService struct {
	ID    string       `json:"id"`
	KeyID string       `json:"keyId"`
	Name  string       `json:"name"`
	State string       `json:"state"`
	Terms serviceTerms `json:"terms"` // what it may do, and with which client certificates
}

// SnapshotAssignment is a role that was given beyond the enrolment, and not withdrawn.
type SnapshotAssignment struct {
	By      string `json:"by"`
	End     string `json:"end"` // empty: until it is withdrawn
	Holder  string `json:"holder"`
	ID      string `json:"id"`
	InForce bool   `json:"inForce"`
	Reason  string `json:"reason"`
	Role    string `json:"role"`
	Start   string `json:"start"` // empty: at once
}

// SnapshotGroup is a group.
type SnapshotGroup struct {
	DisplayName string   `json:"displayName"`
	Members     []string `json:"members"`
	Name        string   `json:"name"`
}

// SnapshotDesignation is who may sign records of a type.
type SnapshotDesignation struct {
	Courses    []string        `json:"courses"`
	Holders    []rights.Holder `json:"holders"` // none: every signer
	RecordType string          `json:"recordType"`
}

// SnapshotTraining is an attestation, also one that has lapsed.
type SnapshotTraining struct {
	By        string `json:"by"`
	Course    string `json:"course"`
	End       string `json:"end"`
	ID        string `json:"id"`
	InForce   bool   `json:"inForce"`
	Reference string `json:"reference"`
	Signer    string `json:"signer"`
}

// everything is more rows than there are.
const everything = 1 << 30

// ReviewSnapshot writes down all credentials and rights. The roles in force are proved from their entries.
func (d *Directory) ReviewSnapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := d.settled(ctx, func(r *ledger.Read) (err error) {
		now := d.cfg.Clock()
		head := r.Head().Checkpoint
		s = Snapshot{
			AsOf: chain.NewTime(now), Format: SnapshotFormat, Ledger: SnapshotHead{Root: head.Root.String(), Size: head.Size},
			Assignments: []SnapshotAssignment{}, Designations: []SnapshotDesignation{}, Groups: []SnapshotGroup{}, People: []SnapshotPerson{},
			Services: []SnapshotService{}, Training: []SnapshotTraining{},
		}
		if err := d.snapshotSigners(r, &s); err != nil {
			return err
		}
		assignments, err := rights.Assignments(r, 0, everything, now)
		if err != nil {
			return err
		}
		for _, a := range assignments {
			s.Assignments = append(s.Assignments, SnapshotAssignment{
				By: a.By, End: orEmpty(a.End), Holder: string(a.Holder), ID: a.ID, InForce: a.InForce, Reason: a.Reason, Role: a.Role,
				Start: orEmpty(a.Start),
			})
		}
		groups, err := rights.Groups(r, "", everything)
		if err != nil {
			return err
		}
		for _, g := range groups {
			s.Groups = append(s.Groups, SnapshotGroup{DisplayName: g.DisplayName, Members: append([]string{}, g.Members...), Name: g.Name})
		}
		designations, err := rights.Designations(r)
		if err != nil {
			return err
		}
		for _, x := range designations {
			s.Designations = append(s.Designations, SnapshotDesignation{
				Courses: append([]string{}, x.Courses...), Holders: append([]rights.Holder{}, x.Holders...), RecordType: x.RecordType,
			})
		}
		training, err := rights.Trainings(r, "", 0, everything, now)
		if err != nil {
			return err
		}
		for _, t := range training {
			s.Training = append(s.Training, SnapshotTraining{
				By: t.By, Course: t.Course, End: orEmpty(t.End), ID: t.ID, InForce: t.InForce, Reference: t.Reference, Signer: t.Signer,
			})
		}
		return nil
	})
	return s, err
}

func (d *Directory) snapshotSigners(r *ledger.Read, s *Snapshot) error {
	view := r.View(projectionName)
	var failed error
	view.Ascend(bucketOrder, nil, func(_, id []byte) bool {
		var row signerRow
		if row, _, failed = getSigner(view, string(id)); failed != nil {
			return false
		}
		if row.Service {
			var terms serviceTerms
			terms, failed = serviceTermsOf(r, row)
			s.Services = append(s.Services, SnapshotService{ID: row.ID, KeyID: row.KeyID, Name: row.UserName, State: string(row.State), Terms: terms})
			return failed == nil
		}
		var p SnapshotPerson
		p, failed = d.snapshotPerson(r, row)
		s.People = append(s.People, p)
		return failed == nil
	})
	return failed
}

func (d *Directory) snapshotPerson(r *ledger.Read, row signerRow) (SnapshotPerson, error) {
	p := SnapshotPerson{
		Credentials: []string{}, EnrolmentRoles: []string{}, ID: row.ID, KeyID: row.KeyID, Name: row.Name, RolesInForce: []string{},
		State: string(row.State), UserName: row.UserName,
	}
	tests, err := testsOf(r.View(testsProjectionName), row.ID)
	if err != nil {
		return p, err
	}
	last := map[string]string{}
	for _, t := range tests {
		last[string(t.key())] = ", last tested " + t.Last.String()
		if d.overdue(t, d.cfg.Clock()) {
			last[string(t.key())] += ", which is too long ago"
		}
	}
	if row.Credential != "" {
		p.Credentials = append(p.Credentials, "password, set "+row.PasswordTime.String()+last[string(testKey(row.ID, TestedPassword, ""))])
	}
	if row.TOTP != "" {
		p.Credentials = append(p.Credentials, "one-time passwords"+last[string(testKey(row.ID, TestedTOTP, ""))])
	}
	passkeys, err := passkeysOf(r.View(projectionName), row.ID)
	if err != nil {
		return p, err
	}
	for _, k := range passkeys {
		may := ""
		if k.Vouches {
			may = ", may vouch for others"
		}
		p.Credentials = append(p.Credentials, fmt.Sprintf("passkey %s, %s since %s%s%s", k.ID, k.State, k.Created, may, last[string(testKey(row.ID, TestedPasskey, k.ID))]))
	}
	p.EnrolmentRoles = d.book.Kept(r, row.ID, enrolledRoles(row.Roles))
	if row.Enrolled == 0 {
		return p, nil
	}
	e, err := d.enrolment(r, row)
	if err != nil {
		return p, err
	}
	if e.leaf != nil {
		p.CertificateEnds = orEmpty(e.leaf.NotAfter)
	}
	if row.State == StateActive {
		p.RolesInForce, err = d.rolesNow(r, row)
	}
	return p, err
}

// Text is the snapshot for people: one line for each thing, in plain text.
func (s Snapshot) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	names := map[string]string{}
	for _, p := range s.People {
		names[p.ID] = fmt.Sprintf("%s (%s)", p.Name, p.UserName)
	}
	show := func(id string) string {
		if name, ok := names[id]; ok {
			return name
		}
		return id
	}
	list := func(ids []string, none string) string {
		if len(ids) == 0 {
			return none
		}
		out := make([]string, len(ids))
		for i, id := range ids {
			out[i] = show(id)
		}
		return strings.Join(out, ", ")
	}
	until := func(end string) string {
		if end == "" {
			return "until it is withdrawn"
		}
		return "until " + end
	}
	force := func(inForce bool) string {
		if inForce {
			return "in force"
		}
		return "not in force"
	}
	line("Credentials and rights as of %s, ledger of %d entries.", s.AsOf, s.Ledger.Size)
	line("")
	line("People (%d)", len(s.People))
	for _, p := range s.People {
		line("- %s, %s: %s. Roles in force: %s. Credentials: %s. Certificate ends: %s.", show(p.ID), p.ID, p.State,
			list(p.RolesInForce, "none"), shown(p.Credentials), list(notEmpty(p.CertificateEnds), "no key"))
	}
	line("")
	line("Services (%d)", len(s.Services))
	for _, x := range s.Services {
		certificates := make([]string, len(x.Terms.Clients))
		for i, c := range x.Terms.Clients {
			certificates[i] = fmt.Sprintf("%.16s until %s", c.Certificate, c.Expires)
		}
		line("- %s, %s: %s. May call: %s. May seal: %s. From: %s. Client certificates: %s. URI: %s.", x.Name, x.ID, x.State,
			list(x.Terms.Methods, "all that services may"), list(x.Terms.RecordTypes, "every type"), list(x.Terms.Networks, "all networks of services"),
			list(certificates, "none"), list(notEmpty(x.Terms.URI), "none"))
	}
	line("")
	line("Roles given beyond the enrolment (%d)", len(s.Assignments))
	for _, a := range s.Assignments {
		line("- %s to %s, %s, %s, by %s. Reason: %s", a.Role, show(a.Holder), until(a.End), force(a.InForce), show(a.By), strings.ReplaceAll(a.Reason, "\n", " "))
	}
	line("")
	line("Groups (%d)", len(s.Groups))
	for _, g := range s.Groups {
		line("- %s (%s): %s.", g.Name, g.DisplayName, list(g.Members, "nobody"))
	}
	line("")
	line("Designations (%d)", len(s.Designations))
	for _, x := range s.Designations {
		holders := make([]string, len(x.Holders))
		for i, h := range x.Holders {
			holders[i] = string(h)
		}
		line("- %s: %s. Training: %s.", x.RecordType, list(holders, "every signer"), list(x.Courses, "none"))
	}
	line("")
	line("Training (%d)", len(s.Training))
	for _, t := range s.Training {
		line("- %s, %s, until %s, %s, reference %s, by %s.", show(t.Signer), t.Course, t.End, force(t.InForce), t.Reference, show(t.By))
	}
	return b.String()
}

// shown are texts that hold commas.
func shown(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, "; ")
}

func notEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
