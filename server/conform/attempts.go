package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

func (r *run) wrongCredentials() error {
	from, err := r.size()
	if err != nil {
		return err
	}
	r.did("logged in under a user name that is nobody's, and under the administrator's own with a wrong password, once each")
	_, unknown := r.login(&signetv1.PasswordCredentials{UserName: "conform-" + strings.ToLower(rand.Text()[:12]), Password: rand.Text()})
	_, wrong := r.login(&signetv1.PasswordCredentials{UserName: r.o.Credentials.GetUserName(), Password: rand.Text()})
	for _, err := range []error{unknown, wrong} {
		if code, reason, _ := reasonOf(err); code != codes.Unauthenticated || reason != "BAD_CREDENTIALS" {
			return fmt.Errorf("it was answered with %s", refusal(err))
		}
	}
	if unknown.Error() != wrong.Error() {
		return fmt.Errorf("the answers differ: %v, and %v", unknown, wrong)
	}
	r.saw("both were refused in the same words: %s", refusal(wrong))
	var failed []*signetv1.Entry
	ok, err := r.until(func() (bool, error) {
		failed, err = r.entries(from, "authentication.failed")
		return len(failed) >= 2, err
	})
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%d entries authentication.failed, want 2", len(failed)))
	}
	for _, e := range failed {
		if bytes.Contains(e.GetContent(), []byte("conform-")) {
			return fmt.Errorf("entry %d has the name that was typed: people type passwords there", e.GetIndex())
		}
	}
	r.saw("entries %d and %d have them, without the name that was typed", failed[0].GetIndex(), failed[1].GetIndex())
	return nil
}

func (r *run) lockout() error {
	from, err := r.size()
	if err != nil {
		return err
	}
	name := "conform-" + strings.ToLower(rand.Text()[:12])
	most := 4*r.o.Config.Identity.LockAfter + 8
	ctx, cancel := context.WithTimeout(r.plain, 4*r.o.Patience)
	defer cancel()
	tries, guesses := 0, 0 // guesses are those that were answered
	for ; tries < most; tries++ {
		_, err := r.login(&signetv1.PasswordCredentials{UserName: name, Password: rand.Text()})
		code, reason, retry := reasonOf(err)
		if code == codes.ResourceExhausted && reason == "LOCKED" {
			// It is the lock, whose entry is read as soon as a checkpoint covers it, or a delay, which grows, and not the lock yet.
			var locked []*signetv1.Entry
			ok, err := within(ctx, min(retry, r.o.Patience), func() (_ bool, err error) {
				locked, err = r.entries(from, "signer.locked", "source.locked")
				return len(locked) > 0, err
			})
			if err != nil {
				return err
			}
			if ok {
				r.did("logged in with wrong passwords under a name that is nobody's, %d times", tries)
				if guesses > r.o.Config.Identity.LockAfter {
					return fmt.Errorf("%d wrong passwords were answered before it was locked, and identity.lockAfter is %d", guesses, r.o.Config.Identity.LockAfter)
				}
				r.saw("locked after it: %s, for another %v; entry %d (%s)", "LOCKED", retry.Round(time.Second), locked[0].GetIndex(), locked[0].GetType())
				return nil
			}
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if code != codes.Unauthenticated {
			return fmt.Errorf("it was answered with %s", refusal(err))
		}
		guesses++
	}
	return fmt.Errorf("%d wrong passwords under one name, and it is not locked", tries)
}

func (r *run) alerts() error {
	alerts := signetv1.NewAlertServiceClient(r.conn)
	r.did("looked for the alert about the lock, and for its deliveries")
	var mine *signetv1.Alert
	ok, err := r.until(func() (bool, error) {
		page, err := alerts.ListAlerts(r.ctx, &signetv1.ListAlertsRequest{PageSize: 50})
		for _, a := range page.GetAlerts() {
			if a.GetEntry() >= r.begun && strings.HasSuffix(a.GetKind(), ".locked") {
				mine = a
			}
		}
		return mine != nil, err
	})
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("no alert was raised")
	}
	r.saw("%s: %s, raised %s", mine.GetName(), mine.GetSummary(), mine.GetCreateTime().AsTime().Format(time.RFC3339Nano))
	if r.o.Config.Alerts.Mail.Server == "" && len(r.o.Config.Alerts.Webhooks) == 0 {
		return fmt.Errorf("nobody is told: set up mail or a webhook (alerts)")
	}
	var sent []*signetv1.Delivery
	ok, err = r.until(func() (bool, error) {
		page, err := alerts.ListDeliveries(r.ctx, &signetv1.ListDeliveriesRequest{Parent: mine.GetName()})
		sent = page.GetDeliveries()
		return slices.ContainsFunc(sent, func(d *signetv1.Delivery) bool { return d.GetDelivered() }), err
	})
	if err != nil {
		return err
	}
	var first *signetv1.Delivery // that got there
	for _, d := range sent {
		if d.GetDelivered() && (first == nil || d.GetTime().AsTime().Before(first.GetTime().AsTime())) {
			first = d
		}
		r.saw("%s to %s, try %d: delivered %v, %s", d.GetChannel(), d.GetAudience(), d.GetAttempt(), d.GetDelivered(), d.GetOutcome())
	}
	if !ok {
		return errors.New("it was not delivered")
	}
	r.saw("delivered %v after it was raised", first.GetTime().AsTime().Sub(mine.GetCreateTime().AsTime()).Round(time.Millisecond))
	return nil
}
