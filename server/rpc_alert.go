package server

import (
	"context"
	"errors"
	"strings"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

type alertService struct {
	signetv1.UnsafeAlertServiceServer // the compiler asks for every method
	*Server
}

var alertStates = map[notify.State]signetv1.AlertState{
	notify.Open: signetv1.AlertState_ALERT_STATE_OPEN, notify.Escalated: signetv1.AlertState_ALERT_STATE_ESCALATED,
	notify.Acknowledged: signetv1.AlertState_ALERT_STATE_ACKNOWLEDGED, notify.Information: signetv1.AlertState_ALERT_STATE_INFORMATION,
}

func alertID(name string) string { return strings.TrimPrefix(name, "alerts/") }

func toAlert(s notify.Status) *signetv1.Alert {
	a := &signetv1.Alert{
		Name: "alerts/" + s.ID, Kind: s.Kind, State: alertStates[s.State], Summary: s.Summary, Entry: s.Entry, CreateTime: stamp(s.Time),
		EscalateTime: stamp(s.Escalated), AcknowledgeTime: stamp(s.Acknowledged), Remark: s.Remark,
	}
	if s.Subject != "" {
		a.Subject = "signers/" + s.Subject
	}
	if s.By != "" {
		a.AcknowledgedBy = "signers/" + s.By
	}
	if s.Undelivered != "" {
		a.Summary += " It was not delivered: " + s.Undelivered + "."
	}
	return a
}

func (s alertService) GetAlert(_ context.Context, in *signetv1.GetAlertRequest) (*signetv1.GetAlertResponse, error) {
	a, err := notify.Get(s.ledger, alertID(in.GetName()))
	if err != nil {
		return nil, err
	}
	return &signetv1.GetAlertResponse{Alert: toAlert(a)}, nil
}

func (s alertService) ListAlerts(_ context.Context, in *signetv1.ListAlertsRequest) (*signetv1.ListAlertsResponse, error) {
	name := "alerts"
	if in.GetOpen() {
		name = "open alerts"
	}
	before, err := s.pages.read(name, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	list, err := notify.List(s.ledger, before, size+1, in.GetOpen())
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListAlertsResponse{}
	for i, a := range list {
		if i == size {
			out.NextPageToken = s.pages.token(name, list[i-1].Index)
			break
		}
		out.Alerts = append(out.Alerts, toAlert(a))
	}
	return out, nil
}

func (s alertService) AcknowledgeAlert(ctx context.Context, in *signetv1.AcknowledgeAlertRequest) (*signetv1.AcknowledgeAlertResponse, error) {
	c := caller(ctx)
	a, err := notify.Acknowledge(ctx, s.ledger, c.Actor(), alertID(in.GetName()), in.GetRemark())
	switch {
	case errors.Is(err, notify.ErrAboutThemselves): // who tries is worth an entry
		return nil, errors.Join(err, s.identities.Denied(ctx, c, signetv1.AlertService_AcknowledgeAlert_FullMethodName, "second person"))
	case err != nil:
		return nil, err
	}
	return &signetv1.AcknowledgeAlertResponse{Alert: toAlert(a)}, nil
}

func (s alertService) TestAlerts(ctx context.Context, _ *signetv1.TestAlertsRequest) (*signetv1.TestAlertsResponse, error) {
	c := caller(ctx)
	result, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		notify.RaiseBy(tx, c.Actor(), notify.Alert{
			Kind: notify.KindTest, Audience: notify.Security, Entry: tx.Size(),
			Summary: "This is a test of the alerts: nothing has happened. Acknowledge it, so that it is not repeated.",
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	a, err := notify.At(s.ledger, result.First)
	if err != nil {
		return nil, err
	}
	return &signetv1.TestAlertsResponse{Alert: toAlert(a)}, nil
}

func (s alertService) ListDeliveries(_ context.Context, in *signetv1.ListDeliveriesRequest) (*signetv1.ListDeliveriesResponse, error) {
	name := "deliveries " + in.GetParent()
	after, err := s.pages.read(name, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	list, err := notify.Deliveries(s.ledger, alertID(in.GetParent()), after, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListDeliveriesResponse{}
	for i, d := range list {
		if i == size {
			out.NextPageToken = s.pages.token(name, list[i-1].Entry)
			break
		}
		out.Deliveries = append(out.Deliveries, &signetv1.Delivery{
			Channel: d.Channel, Audience: string(d.Audience), Attempt: int32(d.Attempt), Delivered: d.Delivered, Outcome: d.Outcome, Time: stamp(d.Time), Entry: d.Entry,
		})
	}
	return out, nil
}

func (s signerService) SetContact(ctx context.Context, in *signetv1.SetContactRequest) (*signetv1.SetContactResponse, error) {
	who, id, p := caller(ctx), signerID(in.GetName()), in.GetPassword()
	if p.GetUserName() == "" || p.GetPassword() == "" {
		return nil, identity.ErrCredentialsMissing
	}
	if who.ID != id && !who.Has(identity.RoleAdministrator) {
		return nil, errors.Join(identity.ErrForbidden, s.identities.Denied(ctx, who, signetv1.SignerService_SetContact_FullMethodName, "somebody else's"))
	}
	if who.Kind == chain.Person {
		if err := s.identities.ProveAct(ctx, who, proofOf(p, nil), identity.PurposeCredential, in.GetName()); err != nil {
			return nil, err
		}
	}
	return &signetv1.SetContactResponse{}, s.identities.SetContact(ctx, who, id, in.GetEmail(), in.GetReason())
}
