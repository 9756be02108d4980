package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// How often certificates are looked at while nothing is appended, and how long after a failure.
const (
	certificatesLook  = time.Minute
	certificatesRetry = time.Hour
)

const day = 24 * time.Hour

// AlertLapsing is the kind of the alerts about certificates that lapse soon.
const alertLapsing = "certificate.lapsing"

// tellBefore is how long before a certificate lapses the security unit is told, once for each; and when it has lapsed.
var tellBefore = []time.Duration{60 * day, 30 * day, 7 * day, day, 0}

// tellBeforeCA is the same for the CA, whose key every verifier must have pinned anew before it is rotated.
var tellBeforeCA = append([]time.Duration{365 * day}, tellBefore...)

// watchedRoles are the roles of keys with certificates; those of the service's own first.
var watchedRoles = []string{keyCA, keyTSA, keyClosing, keySealing, keyOfService, keySigner}

// certificatesLapsing is the body of certificate.lapsing: what one alert is about.
type certificatesLapsing struct {
	Certificates []lapsingCertificate `json:"certificates"`
}

type lapsingCertificate struct {
	Entry    uint64     `json:"entry,string"` // index of the entry that holds it
	KeyID    string     `json:"keyId"`
	NotAfter chain.Time `json:"notAfter"`
	Role     string     `json:"role"`
	Signer   string     `json:"signer"` // empty: the service's own
}

// maxLapsing is how many certificates one entry names. The rest follows with the next look.
const maxLapsing = 200

// keepCertificates looks after revocation lists and certificates that lapse until ctx ends.
func (s *Server) keepCertificates(ctx context.Context) {
	s.background.Go(func() {
		var retry time.Time
		for {
			seen := s.ledger.Head().Checkpoint.Size
			if !time.Now().Before(retry) {
				retry = time.Time{}
				if err := s.lookAfterCertificates(ctx); err != nil && ctx.Err() == nil {
					retry = time.Now().Add(certificatesRetry)
				}
			} else if err := s.lookAfterLists(ctx); err != nil && ctx.Err() == nil {
				s.log.DebugContext(ctx, "revocation lists", "error", err)
			}
			if s.awaitRevocation(ctx, seen); ctx.Err() != nil {
				return
			}
		}
	})
}

// awaitRevocation waits until something was revoked after a size, for a minute at the most. It looks once a second.
func (s *Server) awaitRevocation(ctx context.Context, size uint64) {
	limited, cancel := context.WithTimeout(ctx, certificatesLook)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for at := size; ; {
		head, err := s.ledger.NextHead(limited, at)
		if err != nil {
			<-limited.Done() // the ledger has failed, or the minute is over
			return
		}
		at = head.Checkpoint.Size
		revoked := false
		err = s.ledger.View(func(r *ledger.Read) error {
			revoked = lastRevocation(r.View(certificatesProjectionName)) >= size
			return nil
		})
		if err == nil && revoked {
			return
		}
		select {
		case <-limited.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAfterLists makes revocation lists anew that are due.
func (s *Server) lookAfterLists(ctx context.Context) error {
	s.certificates.running.Lock()
	defer s.certificates.running.Unlock()
	return s.issueLists(ctx)
}

// lookAfterCertificates renews what the service can renew, makes revocation lists anew, and tells of certificates that lapse.
func (s *Server) lookAfterCertificates(ctx context.Context) error {
	s.certificates.running.Lock()
	defer s.certificates.running.Unlock()
	err := errors.Join(s.renewOwn(ctx), s.issueLists(ctx), s.tellOfLapsing(ctx))
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "certificates", "error", err)
	}
	return err
}

// renewOwn gives the service's own keys a successor before their certificates lapse. Nobody needs a new trust file for that: the CA is the same.
func (s *Server) renewOwn(ctx context.Context) error {
	var failed []error
	for _, role := range []string{keyTSA, keyClosing, keySealing} {
		var place certificatePlace
		var owner string
		var ok bool
		err := s.ledger.View(func(r *ledger.Read) (err error) {
			place, owner, ok, err = firstToLapse(r.View(certificatesProjectionName), role)
			return err
		})
		now := s.clock()
		if err == nil && ok && !now.Before(place.NotAfter.Time().Add(-time.Duration(s.config.Certificates.RenewBefore))) {
			err = s.renewKey(ctx, role, owner, place)
		}
		if err != nil {
			err = fmt.Errorf("could not be renewed, it holds until %s: %w", place.NotAfter, err)
			failed = append(failed, fmt.Errorf("certificate of the key %s: %w", role, err))
		}
		s.certificates.note("certificate of the key "+role, err)
	}
	return errors.Join(failed...)
}

// renewKey rotates a key of the service's own, unless that would win nothing: no certificate outlives the CA's.
func (s *Server) renewKey(ctx context.Context, role, owner string, place certificatePlace) error {
	ca, err := readKey(s.ledger, keyCA)
	if err != nil {
		return err
	}
	if ca.Certificate == nil || !ca.Certificate.NotAfter.After(place.NotAfter.Time().Add(day)) {
		return errors.New("the CA's certificate lapses then, too: rotate the CA's key first, and have verifiers pin the new trust file")
	}
	if signer := signerOf(owner); signer != "" {
		got, err := s.identities.Get(ctx, signer)
		if err != nil || got.State != identity.StateActive {
			return err // who may not seal needs no certificate
		}
	}
	successor, err := s.rotateKey(ctx, keyChange{
		caller: certificatesActor, keyID: place.KeyID, reason: fmt.Sprintf("the certificate lapses on %s", place.NotAfter.Time().Format(time.DateOnly)),
	})
	if err == nil {
		s.log.InfoContext(ctx, "a certificate was renewed, with a new key", "role", role, "key", successor)
	}
	return err
}

// lapsing finds the certificates of which somebody must be told now.
func lapsing(view *ledger.State, now chain.Time) (out []lapsingCertificate, err error) {
	for _, role := range watchedRoles {
		before := tellBefore
		if role == keyCA {
			before = tellBeforeCA
		}
		var owners []string
		view.Prefix(bucketEnds, []byte(role+"/"), func(k, v []byte) bool {
			if end := place(k[len(role)+1:][:8]); chain.TimeFromMilli(int64(end)).Sub(now) > before[0] {
				return false
			}
			owners = append(owners, string(v))
			return true
		})
		for _, owner := range owners {
			p, ok, err := inUse(view, owner)
			if err != nil {
				return nil, err
			}
			var told chain.Time
			said, err := readRow(view, bucketTold, issuedKey(p.KeyID, p.Index), &told)
			if err != nil {
				return nil, err
			}
			if ok && tell(p.NotAfter, now, told, said, before) && len(out) < maxLapsing {
				out = append(out, lapsingCertificate{Entry: p.Index, KeyID: p.KeyID, NotAfter: p.NotAfter, Role: role, Signer: signerOf(owner)})
			}
		}
	}
	return out, nil
}

// tell reports whether a threshold was passed since somebody was told.
func tell(end, now, told chain.Time, said bool, before []time.Duration) bool {
	left := end.Sub(now)
	return slices.ContainsFunc(before, func(d time.Duration) bool { return left <= d && (!said || end.Sub(told) > d) })
}

// tellOfLapsing raises an alert about certificates that lapse soon, and tells their signers.
func (s *Server) tellOfLapsing(ctx context.Context) error {
	var found []lapsingCertificate
	err := s.ledger.View(func(r *ledger.Read) (err error) {
		found, err = lapsing(r.View(certificatesProjectionName), chain.NewTime(s.clock()))
		return err
	})
	if err != nil || len(found) == 0 {
		return err
	}
	_, err = s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		found, err := lapsing(tx.View(certificatesProjectionName), tx.Now())
		if err != nil || len(found) == 0 {
			return err
		}
		at := tx.Emit(ledger.Event{Type: chain.CertificateLapsing, Actor: certificatesActor.Actor(), Body: certificatesLapsing{found}})
		notify.Raise(tx, notify.Alert{Kind: alertLapsing, Audience: notify.Security, Entry: at, Summary: lapsingSummary(found, tx.Now())})
		for _, c := range found {
			if c.Role != keySigner {
				continue
			}
			notify.Raise(tx, notify.Alert{
				Kind: alertLapsing, Audience: notify.Signer, Subject: c.Signer, Entry: at,
				Summary: fmt.Sprintf("The certificate of your electronic signature %s on %s. An administrator renews it; earlier signatures stand.",
					lapseWord(c.NotAfter, tx.Now()), c.NotAfter.Time().Format(time.DateOnly)),
			})
		}
		return nil
	})
	return err
}

func lapseWord(end, now chain.Time) string {
	if end.After(now) {
		return "lapses"
	}
	return "has lapsed"
}

// lapsingSummary names what fits into an alert.
func lapsingSummary(found []lapsingCertificate, now chain.Time) string {
	var b strings.Builder
	if fmt.Fprintf(&b, "Certificates lapse (%d): ", len(found)); len(found) == 1 {
		b.Reset()
		b.WriteString("A certificate lapses: ")
	}
	for i, c := range found {
		who := c.Signer
		if who == "" {
			who = "the key " + c.Role
		}
		if i == 4 {
			fmt.Fprintf(&b, " and %d more", len(found)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s on %s", who, lapseWord(c.NotAfter, now), c.NotAfter.Time().Format(time.DateOnly))
	}
	b.WriteString(". `signet signer list --lapsing` and `signet key list` show them; ")
	if slices.ContainsFunc(found, func(c lapsingCertificate) bool { return c.Role == keyCA }) {
		b.WriteString("rotate the CA's key with `signet key rotate`, and have every verifier pin the new trust file.")
	} else {
		b.WriteString("signers are renewed with `signet signer renew`, other keys with `signet key rotate`.")
	}
	return b.String()
}

// certificateProblems says what is wrong with certificates and revocation lists; empty: nothing.
func (s *Server) certificateProblems() []string {
	var out []string
	s.certificates.mu.Lock()
	for what, err := range s.certificates.problems {
		out = append(out, what+": "+err.Error())
	}
	s.certificates.mu.Unlock()
	err := s.ledger.View(func(r *ledger.Read) error {
		now := chain.NewTime(s.clock())
		for _, role := range []string{keyCA, keyTSA, keyClosing, keySealing} {
			p, _, ok, err := firstToLapse(r.View(certificatesProjectionName), role)
			if err != nil {
				return err
			}
			if ok && p.NotAfter.Sub(now) <= 60*day {
				out = append(out, fmt.Sprintf("the certificate of the key %s %s on %s", role, lapseWord(p.NotAfter, now), p.NotAfter.Time().Format(time.DateOnly)))
			}
		}
		return nil
	})
	if err != nil {
		out = append(out, err.Error())
	}
	slices.Sort(out)
	return out
}

var (
	figureExpiry   = prometheus.NewDesc("signet_certificate_expiry_seconds", "Until the first certificate in use of a role lapses; negative: since it has.", []string{"role"}, nil)
	figureListEnds = prometheus.NewDesc("signet_revocation_list_expiry_seconds", "Until the newest revocation list of the CA lapses; negative: since it has.", nil, nil)
	figureListSize = prometheus.NewDesc("signet_revocation_list_entries", "Certificates on the newest revocation list of the CA.", nil, nil)
	figureListDue  = prometheus.NewDesc("signet_certificate_problems", "What is wrong with certificates and revocation lists; the status says what.", nil, nil)

	certificateFigures = []*prometheus.Desc{figureExpiry, figureListEnds, figureListSize, figureListDue}
)

// certificateCollector reads the figures of certificates when they are asked for.
type certificateCollector struct{ *Server }

// Describe implements [prometheus.Collector].
func (certificateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range certificateFigures {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c certificateCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := chain.NewTime(c.clock())
	err := c.ledger.View(func(r *ledger.Read) error {
		view := r.View(certificatesProjectionName)
		for _, role := range watchedRoles {
			if p, _, ok, err := firstToLapse(view, role); err == nil && ok {
				gauge(figureExpiry, p.NotAfter.Sub(now).Seconds(), role)
			}
		}
		rows, err := authoritiesOf(view)
		if err != nil || len(rows) == 0 {
			return err
		}
		row, ok, err := newestList(view, rows[0].KeyID)
		if err != nil || !ok {
			return err
		}
		gauge(figureListEnds, row.NextUpdate.Sub(now).Seconds())
		gauge(figureListSize, float64(row.Entries))
		return nil
	})
	if err == nil {
		gauge(figureListDue, float64(len(c.certificateProblems())))
	}
}
