package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// recoveryActor stands in the place of the second administrator, where there is none any more: whoever operates the machine, with the PIN of
// the HSM, while the service is stopped.
const recoveryActor = "recovery"

// InviteAdministrator invites another administrator on the word of the last active one, who has proved themselves with
// [Directory.ProveOffline]: four eyes stay on, and nobody could be enrolled any more. With more than one active administrator it is
// refused. The ledger has it as a proposal of that administrator, confirmed by the recovery.
func (d *Directory) InviteAdministrator(ctx context.Context, last Signer, inv Invitation, reason string) (Signer, Secret, time.Time, error) {
	fail := func(err error) (Signer, Secret, time.Time, error) { return Signer{}, "", time.Time{}, err }
	if err := checkReason(reason); err != nil {
		return fail(err)
	}
	if !slices.Contains(inv.Roles, RoleAdministrator) {
		return fail(invalid("another administrator needs the role %s", RoleAdministrator))
	}
	content, err := d.inviteContent(ctx, &inv)
	if err != nil {
		return fail(err)
	}
	canonical, err := jcs.Marshal(content)
	if err != nil {
		return fail(err)
	}
	rendering := strings.Join(append(renderInvite(content), "In the recovery of the administrators, because: "+reason), "\n")
	by, second := Caller{ID: last.ID, Kind: chain.Person, Method: MethodPassword}, System(recoveryActor)
	e := Execution{Caller: second, Proposer: last.ID, Content: canonical}
	var code Secret
	code, e.code = newCode()
	id := newID("prl_")
	if _, err := d.ledger.Checkpointed(ctx, d.ledger.Size()); err != nil {
		return fail(err)
	}
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, by); err != nil {
			return err
		}
		switch err := d.keepAnAdministrator(tx, last.ID); {
		case err == nil:
			return fmt.Errorf("%w: there is another active administrator, who can confirm an enrolment", ErrState)
		case !errors.Is(err, rights.ErrLastAdministrator):
			return err
		}
		e := e
		e.expires = tx.Now().Add(d.cfg.BootstrapCode)
		index := tx.Emit(ledger.Event{Type: chain.ActProposed, Actor: by.Actor(), Body: actProposed{
			Content: canonical, Digest: hexSum(canonical), Expires: tx.Now().Add(d.cfg.ProposalLifetime), ID: id, Kind: ActInvite, Rendering: rendering,
		}})
		tx.Emit(ledger.Event{Type: chain.ActConfirmed, Actor: second.Actor(), Body: actConfirmed{
			Digest: hexSum(canonical), ID: id, Kind: ActInvite, Proposed: index, Proposer: last.ID,
		}})
		return d.doInvite(tx, e)
	})
	if err != nil {
		return fail(err)
	}
	d.settle(ctx, result)
	signer, err := d.Get(ctx, content.ID)
	return signer, code, result.Time.Add(d.cfg.BootstrapCode).Time(), err
}
