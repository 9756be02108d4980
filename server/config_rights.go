package server

import (
	"context"
	"fmt"
	"time"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/internal/rights"
)

// RightsConfig bounds how long rights go unreviewed.
type RightsConfig struct {
	ReviewEvery Duration `json:"reviewEvery" doc:"a review of all credentials and rights is due so long after the last one was approved, or after the service was made (21 CFR 11.300(b)); 24h to 8784h. When it is overdue, the security unit hears of it"`
}

// defaultRights is what a file starts from: each quarter.
func defaultRights() RightsConfig { return RightsConfig{ReviewEvery: Duration(90 * 24 * time.Hour)} }

func (c RightsConfig) validate(bad func(key, format string, args ...any) error) error {
	if every := time.Duration(c.ReviewEvery); every < 24*time.Hour || every > 366*24*time.Hour {
		return bad("rights.reviewEvery", "%s; use 24h0m0s to 8784h0m0s", every)
	}
	return nil
}

// How often it is looked whether a review is overdue, and how often that is said.
const (
	reviewLook   = time.Hour
	reviewRepeat = 7 * 24 * time.Hour
)

// keepReviewed raises an alert when a review is overdue, and each week until one is approved; and tells of credentials that were not tested.
func (s *Server) keepReviewed(ctx context.Context) {
	s.background.Go(func() {
		tick := time.NewTicker(reviewLook)
		defer tick.Stop()
		for {
			if err := s.lookForReview(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("it is not known whether a review of rights is overdue", "error", err)
			}
			if err := s.identities.TellOfUntested(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("it is not known which credentials are to be tested", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

func (s *Server) lookForReview(ctx context.Context) error {
	every := time.Duration(s.config.Rights.ReviewEvery)
	review, err := s.identities.ReviewStatus(ctx, every)
	if err != nil || !s.clock().After(review.Due) {
		return err
	}
	_, err = s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		review, err := rights.GetReview(tx, every)
		if err != nil {
			return err
		}
		last, err := rights.LastAlert(tx)
		now := tx.Now().Time()
		if err != nil || !now.After(review.Due) || now.Sub(last) < reviewRepeat {
			return err
		}
		notify.Raise(tx, notify.Alert{
			Kind: rights.AlertOverdue, Audience: notify.Security, Entry: tx.Size() - 1,
			Summary: fmt.Sprintf("The review of all credentials and rights has been due since %s. An administrator begins it with `signet review start`.",
				review.Due.UTC().Format(time.RFC3339)),
		})
		return nil
	})
	return err
}
