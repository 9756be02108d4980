package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// byCertificate finds the service that has pinned the certificate, or its key (a service may renew its certificate by itself), or the URI
// in a certificate of the organisation's CA. That the service is admitted with it is read from the service's entry. A service that calls
// from a network that is not its own is returned with [ErrNetwork].
func (d *Directory) byCertificate(ctx context.Context, peer *x509.Certificate, above []*x509.Certificate, src Source) (Caller, error) {
	if now := d.cfg.Clock(); now.Before(peer.NotBefore) || now.After(peer.NotAfter) {
		return Caller{}, fmt.Errorf("%w: the client certificate holds from %s to %s", ErrCertificateExpired,
			peer.NotBefore.UTC().Format(time.RFC3339), peer.NotAfter.UTC().Format(time.RFC3339))
	}
	client := d.clients.of(peer)
	row, terms, err := d.serviceOf(ctx, client)
	if errors.Is(err, errUnpinned) && d.cfg.ClientAuthorities != nil {
		if client.URI, err = d.cfg.ClientAuthorities.uri(peer, above); err != nil {
			return Caller{}, err
		}
		row, terms, err = d.serviceOf(ctx, client)
	}
	if err != nil {
		return Caller{}, err
	}
	source, err := d.sources.of(src)
	if err != nil {
		return Caller{}, err
	}
	c := Caller{ID: row.ID, Kind: chain.Service, Method: MethodTLS, Roles: row.Roles, Source: source.commitment, Client: client, Terms: terms}
	if !Within(terms.networks, src.Address) {
		return c, fmt.Errorf("%w: %s may not call from here", ErrNetwork, row.UserName)
	}
	c.Session, err = d.serviceSession(ctx, c, serviceUse{row.ID, client.Certificate, place(src)}, source)
	return c, err
}

// clientCache keeps the digests of client certificates: each connection has parsed its own, and calls with it again and again.
type clientCache struct {
	mu   sync.RWMutex
	rows map[*x509.Certificate]Client
}

const maxClientsKnown = 4096

func newClientCache() *clientCache { return &clientCache{rows: map[*x509.Certificate]Client{}} }

func (c *clientCache) of(peer *x509.Certificate) Client {
	c.mu.RLock()
	known, ok := c.rows[peer]
	c.mu.RUnlock()
	if ok {
		return known
	}
	known = Client{Certificate: hexSum(peer.Raw), Key: hexSum(peer.RawSubjectPublicKeyInfo)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) >= maxClientsKnown {
		clear(c.rows)
	}
	c.rows[peer] = known
	return known
}

// errUnpinned: no service has pinned the certificate, its key or its URI.
var errUnpinned = fmt.Errorf("%w: no service has enrolled this client certificate", ErrSession)

// serviceOf returns the service of a client, if it is admitted, with its terms. Where they have just been changed it waits for the
// checkpoint that proves them: a change refuses nobody who may call before it and after it.
func (d *Directory) serviceOf(ctx context.Context, client Client) (row signerRow, terms *Terms, err error) {
	row, terms, err = d.serviceNow(client)
	if !errors.Is(err, ledger.ErrNotCheckpointed) {
		return row, terms, err
	}
	limited, cancel := context.WithTimeout(ctx, termsTimeout)
	defer cancel()
	if _, waited := d.ledger.NextHead(limited, termsAt(row)); waited != nil {
		return row, nil, errors.Join(ctx.Err(), err)
	}
	return d.serviceNow(client)
}

// termsTimeout bounds the wait for a checkpoint over terms that were changed.
const termsTimeout = 5 * time.Second

func (d *Directory) serviceNow(client Client) (row signerRow, terms *Terms, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		var id []byte
		if client.URI != "" {
			id = view.Get(bucketPins, []byte("uri:"+client.URI))
		} else if id = view.Get(bucketPins, []byte("cert:"+client.Certificate)); id == nil {
			id = view.Get(bucketPins, []byte("spki:"+client.Key))
		}
		var ok bool
		var err error
		if row, ok, err = d.rows.get(view, string(id)); err != nil {
			return err
		}
		if !ok {
			return errUnpinned
		}
		if err := stateError(row.State); err != nil {
			return err
		}
		if terms, err = d.proveTerms(r, row); err != nil {
			return err
		}
		if !terms.admitted(client) {
			return fmt.Errorf("%w: the client certificate is no longer admitted; call with another one of the service", ErrSession)
		}
		return nil
	})
	return row, terms, err
}

// serviceAgain holds a service against its terms as they are now, for calls that last.
func (d *Directory) serviceAgain(c Caller) (Caller, error) {
	err := d.ledger.View(func(r *ledger.Read) error {
		row, ok, err := d.rows.get(r.View(projectionName), c.ID)
		if err := errors.Join(err, unless(ok, ErrSession), stateError(row.State)); err != nil {
			return err
		}
		c.Roles = row.Roles
		if c.Terms, err = d.proveTerms(r, row); err != nil {
			return err
		}
		return unless(c.Terms.admitted(c.Client), ErrSession)
	})
	return c, err
}

// serviceSession returns the id under which the calls of a service from one place, with one certificate, are recorded. The first one
// leaves an entry.
func (d *Directory) serviceSession(ctx context.Context, c Caller, u serviceUse, source sourceProof) (string, error) {
	if session, ok := d.activity.service(u); ok {
		return session, nil
	}
	d.activity.opening.Lock()
	defer d.activity.opening.Unlock()
	if session, ok := d.activity.service(u); ok {
		return session, nil
	}
	c.Session = newID("ses_")
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		source.put(tx)
		tx.Emit(ledger.Event{Type: chain.SessionOpened, Actor: c.Actor(), Body: sessionOpened{
			Client: c.Client.Certificate, ID: c.ID, Session: c.Session, URI: c.Client.URI,
		}})
		return nil
	})
	if err != nil {
		return "", err
	}
	d.activity.setService(u, c.Session)
	return c.Session, nil
}

// Refused records refused calls or connections, and how many the entry stands for. Without a caller it names the source.
func (d *Directory) Refused(ctx context.Context, caller Caller, src Source, method, why string, count int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	actor, source := caller.Actor(), sourceProof{}
	if caller.ID == "" {
		var err error
		if source, err = d.sources.of(src); err != nil {
			return err
		}
		actor = System("anonymous").Actor()
		actor.Source = source.commitment
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		source.put(tx)
		tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: actor, Body: accessDenied{Count: count, Method: method, Reason: why}})
		return nil
	})
	return err
}
