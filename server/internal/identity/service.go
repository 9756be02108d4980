package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// EnrollService enrols a program: its client certificate (and with it its key) is pinned, and a sealing key is made for
// it in the HSM. A call that is retried under the same requestID gives the first answer.
func (d *Directory) EnrollService(ctx context.Context, caller Caller, name, organisation string, client *x509.Certificate, requestID string) (Signer, error) {
	name = fold(name)
	if organisation == "" {
		organisation = d.cfg.Organisation
	}
	if err := d.checkClient(client); err != nil {
		return Signer{}, err
	}
	hash, err := request(caller, "EnrollService", requestID, []string{name, organisation, hexSum(client.Raw)})
	if err != nil {
		return Signer{}, err
	}
	body := manifest.ServiceEnrolled{
		Clients: []string{hexSum(client.Raw)}, ID: newID("svc_"), Name: name, Organisation: organisation, Roles: []string{string(RoleService)},
	}
	if err := checkService(body); err != nil {
		return Signer{}, err
	}
	// What would be refused is refused before a key is made.
	var earlier string
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		if err := d.mayAdminister(r, caller); err != nil {
			return err
		}
		if earlier, err = enrolledBy(r, hash); err != nil || earlier != "" {
			return err
		}
		return freeService(r.View(projectionName), name, client)
	})
	if err != nil {
		return Signer{}, err
	}
	if earlier != "" {
		return d.Get(ctx, earlier)
	}
	made, err := d.certify(ctx, Subject{ID: body.ID, Name: name, Organisation: organisation, Service: true})
	if err != nil {
		return Signer{}, err
	}
	body.KeyID, body.Certificate = made.key.KeyID, hexSum(made.certificate)
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) (err error) {
		view := tx.View(projectionName)
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		if earlier, err = enrolledBy(tx.Read, hash); err != nil || earlier != "" {
			return err
		}
		if err := d.MayCertify(tx); err != nil {
			return err
		}
		if err := freeService(view, name, client); err != nil {
			return err
		}
		tx.Emit(made.event(caller.Actor(), "service"))
		tx.Emit(ledger.Event{
			Type: chain.ServiceEnrolled, Actor: caller.Actor(), Request: hash, Body: body, Attachments: [][]byte{made.certificate, client.Raw},
		})
		return nil
	})
	if err != nil || earlier != "" {
		d.discardAfter(ctx, made, err)
	}
	if err != nil {
		return Signer{}, err
	}
	if earlier != "" {
		return d.Get(ctx, earlier)
	}
	d.settle(ctx, result)
	return d.Get(ctx, body.ID)
}

// EnrollOwnService enrols a service of the server's own, with a key from the key ceremony: the closing service, which
// nobody can call, and the first sealing service.
func (d *Directory) EnrollOwnService(ctx context.Context, id, name string, key keystore.Key, client *x509.Certificate) (Signer, error) {
	certificate, err := d.ca.Load().Issue(ctx, Subject{ID: id, Name: name, Organisation: d.cfg.Organisation, Service: true}, key.Public)
	if err != nil {
		return Signer{}, err
	}
	body := manifest.ServiceEnrolled{
		Certificate: hexSum(certificate), Clients: []string{}, ID: id, KeyID: key.KeyID, Name: name, Organisation: d.cfg.Organisation,
		Roles: []string{string(RoleService)},
	}
	attachments := [][]byte{certificate}
	if client != nil {
		if err := d.checkClient(client); err != nil {
			return Signer{}, err
		}
		body.Clients, attachments = []string{hexSum(client.Raw)}, append(attachments, client.Raw)
	}
	if err := checkService(body); err != nil {
		return Signer{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		return Signer{}, err
	}
	actor := System("init").Actor()
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		if _, ok, err := getSigner(view, id); err != nil || ok {
			return errJoinFirst(err, fmt.Errorf("%w: %s is enrolled already", ErrNameTaken, id))
		}
		if err := freeService(view, name, client); err != nil {
			return err
		}
		if view.Get(bucketKeys, []byte(key.KeyID)) == nil { // the ceremony has not recorded it
			tx.Emit((&certified{key: key, spki: spki}).event(actor, "service"))
		}
		tx.Emit(ledger.Event{Type: chain.ServiceEnrolled, Actor: actor, Body: body, Attachments: attachments})
		return nil
	})
	if err != nil {
		return Signer{}, err
	}
	d.settle(ctx, result)
	return d.Get(ctx, id)
}

// errJoinFirst returns the first error that there is.
func errJoinFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkService holds what will stand in service.enrolled against what verifiers accept.
func checkService(b manifest.ServiceEnrolled) error {
	if err := checkText("service name", b.Name, 2, maxCommonName); err != nil {
		return err
	}
	if err := checkText("organisation", b.Organisation, 1, maxCommonName); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// checkClient holds a client certificate against what can authenticate a service.
func (d *Directory) checkClient(c *x509.Certificate) error {
	switch now := d.cfg.Clock(); {
	case c == nil:
		return invalid("client certificate: there is none")
	case spkiOf(c.Raw) == nil:
		return invalid("client certificate: it cannot be read")
	case c.IsCA:
		return invalid("client certificate: it is that of a CA; pin the service's own")
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return invalid("client certificate: it holds from %s to %s, not now", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return invalid("client certificate: its extended key usage is not clientAuth")
	}
	return nil
}

// freeService refuses names and client keys that are or were another service's.
func freeService(view reader, name string, client *x509.Certificate) error {
	if view.Get(bucketNames, serviceName(name)) != nil {
		return fmt.Errorf("%w: %s", ErrNameTaken, name)
	}
	if client == nil {
		return nil
	}
	if view.Get(bucketPins, []byte("cert:"+hexSum(client.Raw))) != nil || view.Get(bucketPins, []byte("spki:"+hexSum(client.RawSubjectPublicKeyInfo))) != nil {
		return invalid("client certificate: it, or its key, is another service's")
	}
	return nil
}

// enrolledBy returns which service an earlier call of the same request has enrolled.
func enrolledBy(r *ledger.Read, hash string) (string, error) {
	if hash == "" {
		return "", nil
	}
	first := r.Request(hash)
	if len(first) == 0 {
		return "", nil
	}
	b, err := r.Entry(first[0])
	if err != nil {
		return "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", err
	}
	body, err := manifest.ParseServiceEnrolled(e.Body)
	return body.ID, err
}
