package conform

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

func (r *run) names() error {
	signers := signetv1.NewSignerServiceClient(r.conn)
	me := r.me.GetSigner()
	r.did("tried to enrol a second person under the user name %s", me.GetUserName())
	before, err := r.size()
	if err != nil {
		return err
	}
	_, err = signers.EnrollSigner(r.ctx, &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
		UserName: me.GetUserName(), PrintedName: "A conformance check", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_AUDITOR},
		Proofing: &signetv1.IdentityProofing{Method: "none: a conformance check", Reference: "none"},
	}}})
	if code, _, _ := reasonOf(err); code != codes.AlreadyExists {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s", refusal(err))
	list, err := r.entries(before, "signer.invited", "act.proposed")
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("entry %d came of it", list[0].GetIndex())
	}
	return nil
}

// signersOf lists all signers.
func (r *run) signersOf() (out []*signetv1.Signer, err error) {
	for token := ""; ; {
		page, err := signetv1.NewSignerServiceClient(r.conn).ListSigners(r.ctx, &signetv1.ListSignersRequest{PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetSigners()...)
		if token = page.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

func (r *run) people() error {
	all, err := r.signersOf()
	if err != nil {
		return err
	}
	r.did("read all %d signers, and the entries that invited and enrolled them", len(all))
	invited, err := r.entries(0, "signer.invited")
	if err != nil {
		return err
	}
	enrolled, err := r.entries(0, "signer.enrolled", "signer.renewed")
	if err != nil {
		return err
	}
	type person struct {
		Body struct {
			ID             string         `json:"id"`
			Accountability string         `json:"accountability"`
			Proofing       jsontext.Value `json:"proofing"`
		} `json:"body"`
	}
	proofed, accountable := map[string]bool{}, map[string]bool{}
	for _, e := range append(invited, enrolled...) {
		var p person
		if err := json.Unmarshal(e.GetContent(), &p); err != nil {
			return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		name := "signers/" + p.Body.ID
		proofed[name] = proofed[name] || strings.Contains(string(p.Body.Proofing), `"method":"`)
		accountable[name] = accountable[name] || p.Body.Accountability != ""
	}
	active := 0
	for _, s := range all {
		if s.GetKind() != signetv1.SignerKind_SIGNER_KIND_PERSON || s.GetState() != signetv1.SignerState_SIGNER_STATE_ACTIVE {
			continue
		}
		active++
		if !proofed[s.GetName()] {
			return fmt.Errorf("%s was invited without an identity-proofing record", s.GetName())
		}
		if !accountable[s.GetName()] {
			return fmt.Errorf("%s has not acknowledged their accountability", s.GetName())
		}
	}
	r.saw("%d active persons: each has an identity-proofing record and has acknowledged the accountability statement", active)
	return nil
}

func (r *run) passwords() error {
	r.did("as the administrator: tried to change the own password to one that everybody guesses")
	_, err := signetv1.NewCredentialServiceClient(r.conn).ChangePassword(r.ctx, &signetv1.ChangePasswordRequest{
		Password: r.o.Credentials, NewPassword: "passwordpassword1",
	})
	if _, reason, _ := reasonOf(err); reason != "PASSWORD_WEAK" {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s; the password is unchanged", refusal(err))
	return nil
}

func (r *run) reviews() error {
	r.did("asked when credentials and rights were reviewed")
	s, err := signetv1.NewRightsServiceClient(r.conn).GetReviewStatus(r.ctx, &signetv1.GetReviewStatusRequest{})
	if err != nil {
		return err
	}
	switch {
	case s.GetOverdue():
		return fmt.Errorf("a review is overdue since %s: signet review start", s.GetDueTime().AsTime().Format(time.RFC3339))
	case s.GetLastRecord() == "":
		return notExercised("there was no review yet; the first one is due %s", s.GetDueTime().AsTime().Format(time.RFC3339))
	}
	r.saw("the last review is %s, of %s; the next one is due %s", s.GetLastRecord(), s.GetLastTime().AsTime().Format(time.RFC3339), s.GetDueTime().AsTime().Format(time.RFC3339))
	return nil
}

func (r *run) credentials() error {
	r.did("asked when the own credentials were last tested, and whose tests are overdue")
	client := signetv1.NewCredentialServiceClient(r.conn)
	own, err := client.ListCredentials(r.ctx, &signetv1.ListCredentialsRequest{})
	if err != nil {
		return err
	}
	for _, c := range own.GetCredentials() {
		if c.GetTestDueTime() == nil {
			return errors.New("credentials never become overdue here: set identity.testEvery")
		}
		r.saw("%s: last tested %s, due %s", strings.ToLower(strings.TrimPrefix(c.GetKind().String(), "CREDENTIAL_KIND_")),
			c.GetLastTestTime().AsTime().Format(time.RFC3339), c.GetTestDueTime().AsTime().Format(time.RFC3339))
	}
	n := 0
	for token := ""; ; {
		overdue, err := client.ListCredentials(r.ctx, &signetv1.ListCredentialsRequest{Parent: "signers/-", PageToken: token, PageSize: 200})
		if err != nil {
			return err
		}
		n += len(overdue.GetCredentials())
		if token = overdue.GetNextPageToken(); token == "" {
			break
		}
	}
	r.saw("%d credentials of active signers are overdue; a passkey among them signs nothing until its owner has tested it (signet credential list --overdue)", n)
	return nil
}

func (r *run) training() error {
	rights := signetv1.NewRightsServiceClient(r.conn)
	r.did("read which record types ask for training, and who was trained")
	d, err := rights.ListDesignations(r.ctx, &signetv1.ListDesignationsRequest{})
	if err != nil {
		return err
	}
	var asks []string
	for _, one := range d.GetDesignations() {
		if len(one.GetCourses()) > 0 {
			asks = append(asks, one.GetRecordType()+": "+strings.Join(one.GetCourses(), ", "))
		}
	}
	if len(asks) == 0 {
		return notExercised("no record type asks for training (signet designation set)")
	}
	t, err := rights.ListTraining(r.ctx, &signetv1.ListTrainingRequest{PageSize: 200})
	if err != nil {
		return err
	}
	r.saw("%s; %d attestations", strings.Join(asks, "; "), len(t.GetTraining()))
	return nil
}
