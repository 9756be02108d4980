package identity

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/ledger"
)

// The kinds of acts about signers.
const (
	ActInvite    = "signer.invite"
	ActRenew     = "signer.renew"
	ActReinstate = "signer.reinstate"
)

// signerActs are the acts about signers that take two administrators.
func (d *Directory) signerActs() []ActKind {
	return []ActKind{
		{Kind: ActInvite, Render: renderAs(renderInvite), Do: d.doInvite, code: true},
		{Kind: ActRenew, Render: renderAs(renderRenew), Do: d.doRenew, code: true},
		{Kind: ActReinstate, Render: renderAs(renderReinstate), Do: d.doReinstate},
	}
}

// inviteContent is what signer.invite does: a person of this id is invited.
type inviteContent struct {
	ID           string         `json:"id"`
	Login        string         `json:"login"` // the user name, blinded
	Name         string         `json:"name"`
	Organisation string         `json:"organisation"`
	Proofing     proofingRecord `json:"proofing"`
	Roles        []string       `json:"roles"`
	Title        string         `json:"title"`
	UserName     string         `json:"userName"`
	Zone         string         `json:"zone"`
}

// renewContent is what signer.renew does: a person gets a new code, and what stands here is changed with it.
type renewContent struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"` // empty: unchanged
	Proofing  proofingRecord `json:"proofing"`
	Reason    string         `json:"reason"`
	RevokeNow bool           `json:"revokeNow"`
	Title     string         `json:"title"` // empty: unchanged
	UserName  string         `json:"userName"`
}

// reinstateContent is what signer.reinstate does.
type reinstateContent struct {
	ID       string `json:"id"`
	Reason   string `json:"reason"`
	UserName string `json:"userName"`
}

// readContent reads the content of an act strictly.
func readContent[T any](content jsontext.Value) (T, error) {
	var v T
	if err := json.Unmarshal(content, &v, json.RejectUnknownMembers(true)); err != nil {
		return v, fmt.Errorf("content of an act: %w", err)
	}
	return v, nil
}

// renderAs makes a [ActKind].Render of a function of what was read.
func renderAs[T any](render func(T) []string) func(jsontext.Value) (string, error) {
	return func(content jsontext.Value) (string, error) {
		v, err := readContent[T](content)
		if err != nil {
			return "", err
		}
		return strings.Join(render(v), "\n"), nil
	}
}

func renderInvite(c inviteContent) []string {
	return []string{
		"Enrol a person.", "User name: " + c.UserName, "Printed name: " + c.Name, "Title: " + c.Title, "Organisation: " + c.Organisation,
		"Time zone: " + c.Zone, "Roles: " + strings.Join(c.Roles, ", "), "Identity proved by: " + c.Proofing.Method,
		"Reference: " + c.Proofing.Reference,
	}
}

func renderRenew(c renewContent) []string {
	lines := []string{"Issue a new one-time code to " + c.UserName + " (" + c.ID + ").", "Reason: " + c.Reason}
	if c.Name != "" {
		lines = append(lines, "New printed name: "+c.Name)
	}
	if c.Title != "" {
		lines = append(lines, "New title: "+c.Title)
	}
	if c.RevokeNow {
		lines = append(lines, "The old password has ended already.")
	}
	return append(lines, "Identity proved by: "+c.Proofing.Method, "Reference: "+c.Proofing.Reference)
}

func renderReinstate(c reinstateContent) []string {
	return []string{"End the suspension of " + c.UserName + " (" + c.ID + ").", "Reason: " + c.Reason}
}

// doInvite emits signer.invited for a name that is nobody's.
func (d *Directory) doInvite(tx *ledger.Tx, e Execution) error {
	c, err := readContent[inviteContent](e.Content)
	if err != nil {
		return err
	}
	if tx.View(projectionName).Get(bucketNames, personName(c.UserName)) != nil {
		return fmt.Errorf("%w: %s", ErrNameTaken, c.UserName)
	}
	emitInvited(tx, c, e)
	return nil
}

// inviteAgain answers a call that was carried out before: the same person gets another code.
func (d *Directory) inviteAgain(tx *ledger.Tx, first uint64, e Execution) (id string, err error) {
	c, err := readContent[inviteContent](e.Content)
	if err != nil {
		return "", err
	}
	if c.ID, err = invitedBy(tx, first); err != nil {
		return "", err
	}
	row, _, err := getSigner(tx.View(projectionName), c.ID)
	if err != nil {
		return "", err
	}
	if row.State != StateInvited {
		return "", fmt.Errorf("%w: %s has redeemed a code already", ErrState, row.UserName)
	}
	emitInvited(tx, c, e)
	return c.ID, nil
}

func emitInvited(tx *ledger.Tx, c inviteContent, e Execution) {
	tx.Emit(ledger.Event{Type: chain.SignerInvited, Actor: e.Caller.Actor(), Request: e.Request, Body: signerInvited{
		Code: e.code, Expires: e.expires, ID: c.ID, Login: c.Login, Name: c.Name, Organisation: c.Organisation, Proofing: c.Proofing, Roles: c.Roles,
		Title: c.Title, UserName: c.UserName, Zone: c.Zone,
	}})
}

// doRenew emits signer.invited for a person who is there.
func (d *Directory) doRenew(tx *ledger.Tx, e Execution) error {
	c, err := readContent[renewContent](e.Content)
	if err != nil {
		return err
	}
	row, ok, err := getSigner(tx.View(projectionName), c.ID)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrNotFound
	case row.Service:
		return fmt.Errorf("%w: a service has no password; enrol it anew under another name", ErrState)
	case row.State != StateInvited && row.State != StateActive:
		return wrongState(row)
	}
	body, err := d.renewed(tx.Read, row)
	if err != nil {
		return err
	}
	if c.Name != "" {
		body.Name = c.Name
	}
	if c.Title != "" {
		body.Title = c.Title
	}
	inv := Invitation{
		UserName: body.UserName, Name: body.Name, Title: body.Title, Organisation: body.Organisation, Zone: body.Zone, Roles: rolesOf(body.Roles),
	}
	if err := d.checkInvitation(&inv); err != nil {
		return err
	}
	body.Code, body.Expires, body.Proofing, body.Reason, body.RevokeNow = e.code, e.expires, c.Proofing, c.Reason, c.RevokeNow
	tx.Emit(ledger.Event{Type: chain.SignerInvited, Actor: e.Caller.Actor(), Request: e.Request, Body: body})
	return nil
}

// endPassword ends a person's password, if they have one.
func endPassword(tx *ledger.Tx, caller Caller, id, reason string) error {
	row, _, err := getSigner(tx.View(projectionName), id)
	if err != nil || row.Credential == "" {
		return err
	}
	tx.DeletePrivate(privateVerifiers, []byte(id))
	tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{
		ID: id, Kind: credentialPassword, Reason: reason,
	}})
	return nil
}

// doReinstate ends a suspension.
func (d *Directory) doReinstate(tx *ledger.Tx, e Execution) error {
	c, err := readContent[reinstateContent](e.Content)
	if err != nil {
		return err
	}
	row, err := changeable(tx.View(projectionName), c.ID)
	if err != nil {
		return err
	}
	if row.State != StateSuspended {
		return wrongState(row)
	}
	tx.Emit(ledger.Event{Type: chain.SignerReinstated, Actor: e.Caller.Actor(), Request: e.Request, Body: signerChanged{
		From: StateSuspended, ID: c.ID, Reason: c.Reason, To: StateActive,
	}})
	return nil
}

// actWith is d.act with content that is not yet canonical.
func (d *Directory) actWith(ctx context.Context, caller Caller, in intent, content any) (outcome, error) {
	canonical, err := jcs.Marshal(content)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", in.kind, err)
	}
	in.content = canonical
	return d.act(ctx, caller, in)
}
