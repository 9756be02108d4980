package conform

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
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
	proofed, accountable := map[string]bool{}, map[string]bool{}
	for e, err := range r.read(chain.SignerInvited, chain.SignerEnrolled, chain.SignerRenewed) {
		if err != nil {
			return err
		}
		var p struct {
			ID             string         `json:"id"`
			Accountability string         `json:"accountability"`
			Proofing       jsontext.Value `json:"proofing"` // of an invitation: what was looked at; afterwards its digest
		}
		var proofing struct {
			Method string `json:"method"`
		}
		err = json.Unmarshal(e.Body, &p)
		if err == nil && e.Type == chain.SignerInvited {
			err = json.Unmarshal(p.Proofing, &proofing)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		name := "signers/" + p.ID
		proofed[name] = proofed[name] || proofing.Method != ""
		accountable[name] = accountable[name] || p.Accountability != ""
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
	if len(own.GetCredentials()) == 0 {
		return errors.New("whoever asks has a password, and is told of no credential")
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
	r.saw("asked for: %s", strings.Join(asks, "; "))
	r.did("read whether everybody who began to sign such a record had been trained by then")
	attested, first, err := trainedBefore(r.read(chain.RecordCreated, chain.DesignationChanged, chain.TrainingAttested, chain.TrainingWithdrawn, chain.SignaturePrepared))
	if err != nil {
		return err
	}
	r.saw("%d attestations; %d times somebody began to sign where training was asked for, and had it", attested, first)
	return nil
}

// trainedBefore refuses who prepared their first signature on a record without the training that was asked for then, and counts attestations, and such
// signatures. Later ones can take back what was decided, for which nobody needs training.
func trainedBefore(list iter.Seq2[chain.Entry, error]) (attested, first int, err error) {
	types := map[string]string{}        // of records, by their event
	courses := map[string][]string{}    // asked for, by type
	training := map[string]trainingOf{} // that was not withdrawn, by its id
	began := map[struct{ event, who string }]bool{}
	for e, err := range list {
		if err != nil {
			return 0, 0, err
		}
		var body struct {
			trainingOf
			Event       string `json:"event"`
			ID          string `json:"id"`
			RecordType  string `json:"recordType"`
			Type        string `json:"type"`
			Designation struct {
				Courses []string `json:"courses"`
			} `json:"now"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return 0, 0, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		switch e.Type {
		case chain.RecordCreated:
			types[body.Event] = body.Type
		case chain.DesignationChanged:
			courses[body.RecordType] = body.Designation.Courses
		case chain.TrainingAttested:
			attested++
			training[body.ID] = body.trainingOf
		case chain.TrainingWithdrawn:
			delete(training, body.ID)
		case chain.SignaturePrepared:
			asked, key := courses[types[body.Event]], struct{ event, who string }{body.Event, body.Signer}
			if len(asked) == 0 || began[key] {
				continue
			}
			began[key] = true
			first++
			for _, course := range asked {
				if !holds(training, body.Signer, course, e.Time) {
					return 0, 0, fmt.Errorf("entry %d: %s prepared a signature without the training %s", e.Index, body.Signer, course)
				}
			}
		}
	}
	return attested, first, nil
}

// trainingOf is what an attestation says.
type trainingOf struct {
	Course string     `json:"course"`
	End    chain.Time `json:"end,omitzero"`
	Signer string     `json:"signer"`
}

func holds(training map[string]trainingOf, signer, course string, at chain.Time) bool {
	for _, t := range training {
		if t.Signer == signer && t.Course == course && at.Before(t.End) {
			return true
		}
	}
	return false
}
