package signet

import (
	"context"
	"iter"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Reasons of calls about alerts and contacts.
const (
	AlertNotFound     Reason = "ALERT_NOT_FOUND"
	AlertInWrongState Reason = "ALERT_STATE"
	ContactInvalid    Reason = "CONTACT_INVALID"
)

func (c *Client) alerts() signetv1.AlertServiceClient { return signetv1.NewAlertServiceClient(c.conn) }

// GetAlert reads one alert, `alerts/{alert}`.
//
// Errors: [AlertNotFound].
func (c *Client) GetAlert(ctx context.Context, name string) (*signetv1.Alert, error) {
	answer, err := c.alerts().GetAlert(ctx, &signetv1.GetAlertRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if answer.GetAlert().GetName() != name {
		return nil, contradiction("asked for %s, and got %.80q", name, answer.GetAlert().GetName())
	}
	return answer.GetAlert(), nil
}

// Alerts reads alerts, the newest first: with open, those alone that wait for somebody.
func (c *Client) Alerts(ctx context.Context, open bool) iter.Seq2[*signetv1.Alert, error] {
	return pages(func(token string) ([]*signetv1.Alert, string, error) {
		answer, err := c.alerts().ListAlerts(ctx, &signetv1.ListAlertsRequest{PageSize: 200, PageToken: token, Open: open})
		return answer.GetAlerts(), answer.GetNextPageToken(), err
	})
}

// AcknowledgeAlert says that somebody has taken notice: the alert is neither repeated nor escalated any more.
//
// Errors: [AlertNotFound], [AlertInWrongState], [SecondPersonNeeded] about oneself.
func (c *Client) AcknowledgeAlert(ctx context.Context, name, remark string) (*signetv1.Alert, error) {
	answer, err := c.alerts().AcknowledgeAlert(ctx, &signetv1.AcknowledgeAlertRequest{Name: name, Remark: remark})
	return answer.GetAlert(), err
}

// TestAlerts raises an alert that says that it is a test. Follow it with [Client.Deliveries].
func (c *Client) TestAlerts(ctx context.Context) (*signetv1.Alert, error) {
	answer, err := c.alerts().TestAlerts(ctx, &signetv1.TestAlertsRequest{})
	return answer.GetAlert(), err
}

// Deliveries reads the tries to deliver an alert, in the order of the ledger.
//
// Errors: [AlertNotFound].
func (c *Client) Deliveries(ctx context.Context, alert string) iter.Seq2[*signetv1.Delivery, error] {
	return pages(func(token string) ([]*signetv1.Delivery, string, error) {
		answer, err := c.alerts().ListDeliveries(ctx, &signetv1.ListDeliveriesRequest{Parent: alert, PageSize: 200, PageToken: token})
		return answer.GetDeliveries(), answer.GetNextPageToken(), err
	})
}

// SetContact sets where a person is told of the use of their signature; an empty address erases the one before. Who is the caller's own proof.
//
// Errors: [SignerNotFound], [ContactInvalid], [BadCredentials], [CredentialsMissing], [Denied] for somebody else's without the right.
func (c *Client) SetContact(ctx context.Context, signer, email, reason string, who Password) error {
	_, err := c.signers.SetContact(ctx, &signetv1.SetContactRequest{Name: signer, Email: email, Reason: reason, Password: KeyChange{Who: who}.proof()})
	return err
}
