package signing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// DutyKind is a part that a person had in what is signed.
type DutyKind string

// The duties. EarlierApprover follows from the record that is superseded; the others are said when the record is made.
const (
	DutyAuthor           DutyKind = "author"
	DutyCommitter        DutyKind = "committer"
	DutyBuilder          DutyKind = "builder"
	DutyEvidenceProducer DutyKind = "evidence-producer"
	DutyEarlierApprover  DutyKind = "earlier-approver"
	DutyStarter          DutyKind = "review-starter" // began the review of rights
)

// everyDuty are those that are said when a record is made.
var everyDuty = []DutyKind{DutyAuthor, DutyCommitter, DutyBuilder, DutyEvidenceProducer}

// NamedDuty is a duty as the maker of a record names it.
type NamedDuty struct {
	Duty   DutyKind `json:"duty"`
	Person string   `json:"person"` // signer id or user name
}

// duty is a duty as the record's entry has it.
type duty struct {
	Duty   DutyKind `json:"duty"`
	Signer string   `json:"signer"`
}

// policyRoots are what a record's approvers and exclusions come from.
type policyRoots struct {
	approvers []string // as they were named: ids of signers, groups, roles
	duties    []duty
}

// separation resolves who must not decide about a record: those who are named, and those whose part in it the record type separates
// from its approval.
func (c *Ceremony) separation(ctx context.Context, n NewRecord, t RecordType) (policyRoots, []string, error) {
	fail := func(err error) (policyRoots, []string, error) { return policyRoots{}, nil, err }
	roots := policyRoots{approvers: []string{}, duties: []duty{}}
	excluded := []string{}
	for _, x := range n.Excluded {
		s, err := c.Identities.Lookup(ctx, x)
		if err != nil {
			return fail(fmt.Errorf("%w: %q: %w", ErrApprover, x, err))
		}
		excluded = append(excluded, s.ID)
	}
	for _, d := range n.Duties {
		s, err := c.Identities.Lookup(ctx, d.Person)
		if err != nil {
			return fail(fmt.Errorf("%w: %s %q: %w; who is not enrolled need not be named", ErrApprover, d.Duty, d.Person, err))
		}
		roots.duties = append(roots.duties, duty{Duty: d.Duty, Signer: s.ID})
		if slices.Contains(t.Separation, d.Duty) || d.Duty == DutyStarter {
			excluded = append(excluded, s.ID)
		}
	}
	if n.ExcludeEarlier {
		earlier, err := c.earlierApprovers(n.Supersedes)
		if err != nil {
			return fail(err)
		}
		for _, id := range earlier {
			roots.duties = append(roots.duties, duty{Duty: DutyEarlierApprover, Signer: id})
			excluded = append(excluded, id)
		}
	}
	slices.SortFunc(roots.duties, func(a, b duty) int {
		return strings.Compare(string(a.Duty)+"/"+a.Signer, string(b.Duty)+"/"+b.Signer)
	})
	roots.duties = slices.Compact(roots.duties)
	slices.Sort(excluded)
	return roots, slices.Compact(excluded), nil
}

// earlierApprovers are those who ever approved the record with a digest, also where they have withdrawn it.
func (c *Ceremony) earlierApprovers(digest string) ([]string, error) {
	if digest == "" {
		return nil, fmt.Errorf("%w: the approvers of the earlier version are to be excluded, and no version is superseded", ErrRecordInvalid)
	}
	var out []string
	err := c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		key := view.Get(bucketDigests, []byte(digest))
		if key == nil {
			return fmt.Errorf("%w: it supersedes %s, which is no record here", ErrRecordInvalid, digest)
		}
		rows, err := signatures(view, key)
		for _, s := range rows {
			if s.Decision == decisionApprove {
				out = append(out, s.Signer)
			}
		}
		return err
	})
	return out, err
}

// approvers resolves who may decide about a record: persons by id and printed name, and groups and roles, for which stands whoever
// belongs to them when they sign. It also says how many persons that are now.
func (c *Ceremony) approvers(ctx context.Context, n NewRecord, t RecordType, excluded []string, roots *policyRoots) ([]manifest.Approver, int, error) {
	fail := func(err error) ([]manifest.Approver, int, error) { return nil, 0, err }
	approvers, persons := []manifest.Approver{}, map[string]bool{}
	for _, x := range n.Approvers {
		named := rights.ParseNamed(x)
		found, err := c.Identities.Approvers(ctx, t.ID, x)
		if err != nil {
			return fail(fmt.Errorf("%w: %q: %w", ErrApprover, x, err))
		}
		if named.Person == "" {
			switch {
			case len(found) == 0:
				return fail(fmt.Errorf("%w: %s stands for nobody who can sign a %s now", ErrApprover, x, t.ID))
			case slices.Contains(roots.approvers, x):
				return fail(fmt.Errorf("%w: %s is named twice", ErrApprover, x))
			}
			roots.approvers = append(roots.approvers, x)
			approvers = append(approvers, manifest.Approver{ID: x, Name: named.Group + named.Role})
			for _, s := range found {
				if !slices.Contains(excluded, s.ID) {
					persons[s.ID] = true
				}
			}
			continue
		}
		s := found[0]
		switch {
		case !slices.Contains(s.Roles, identity.RoleSigner):
			return fail(fmt.Errorf("%w: %s does not hold the role signer", ErrApprover, x))
		case s.State != identity.StateActive:
			return fail(fmt.Errorf("%w: %s is %s", ErrApprover, x, s.State))
		case slices.Contains(excluded, s.ID):
			return fail(fmt.Errorf("%w: %s is both designated and excluded%s", ErrApprover, x, roots.why(s.ID)))
		case slices.Contains(roots.approvers, s.ID):
			return fail(fmt.Errorf("%w: %s is named twice", ErrApprover, x))
		}
		roots.approvers = append(roots.approvers, s.ID)
		approvers, persons[s.ID] = append(approvers, manifest.Approver{ID: s.ID, Name: s.Name}), true
	}
	slices.Sort(roots.approvers)
	return approvers, len(persons), nil
}

// why says which part in the record excludes a signer.
func (p policyRoots) why(id string) string {
	var parts []string
	for _, d := range p.duties {
		if d.Signer == id {
			parts = append(parts, string(d.Duty))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " as its " + strings.Join(parts, ", ")
}

// explain adds which part in the record excludes a signer.
func (a *aboutRecord) explain(err error, signer string) error {
	if why := a.roots.why(signer); why != "" && errors.Is(err, ErrNotDesignated) {
		return fmt.Errorf("%w%s", err, why)
	}
	return err
}

// entitled refuses a decision of somebody who does not stand behind what was named as approver now, who is not designated for the type of
// record, or whose training has lapsed. What they have decided can be taken back by everybody.
func (c *Ceremony) entitled(r identity.Reader, about *aboutRecord, signer, decision string) error {
	if decision == decisionWithdraw {
		return nil
	}
	stands, err := c.Identities.Stands(r, signer, about.roots.approvers)
	if err != nil {
		return err
	}
	if !stands {
		return fmt.Errorf("%w: its approvers are %s, and you do not belong to them", ErrNotDesignated, strings.Join(about.roots.approvers, ", "))
	}
	err = c.Identities.Admit(r, about.record.Event.Type, signer)
	if errors.Is(err, rights.ErrNotDesignated) {
		return fmt.Errorf("%w: %w", ErrNotDesignated, err)
	}
	return err
}

// KnownRecordType refuses a type that is not in the registry.
func KnownRecordType(id string) error {
	_, err := recordType(id)
	return err
}
