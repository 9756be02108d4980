package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// ServiceEnrolment is a service to enrol: a program, known by its client certificate, or by the URI in certificates of the organisation's CA.
type ServiceEnrolment struct {
	Name         string
	Organisation string            // empty: the server's
	Client       *x509.Certificate // pinned, and with it its key
	URI          string            // instead of Client
	Rights       ServiceRights
}

// EnrollService enrols a program: its client certificate (and with it its key) is pinned, or the URI in its certificates of the
// organisation's CA is, and a sealing key is made for it in the HSM. Where it takes two administrators, it returns the proposal instead. A
// call that is retried under the same requestID gives the first answer.
func (d *Directory) EnrollService(ctx context.Context, caller Caller, e ServiceEnrolment, requestID string) (Signer, *Proposal, error) {
	c := enrolmentContent{Name: fold(e.Name), Organisation: e.Organisation, URI: e.URI}
	if c.Organisation == "" {
		c.Organisation = d.cfg.Organisation
	}
	if e.Client != nil {
		c.Certificate = e.Client.Raw
	}
	var err error
	if c.Rights, err = d.boundsOf(e.Rights); err != nil {
		return Signer{}, nil, err
	}
	if _, _, err := d.readEnrolmentContent(c); err != nil {
		return Signer{}, nil, err
	}
	done, p, err := d.Act(ctx, caller, actEnrolService, "", c, requestID)
	if err != nil || !done {
		return Signer{}, &p, err
	}
	s, err := d.Lookup(ctx, c.Name)
	return s, nil, err
}

// checkRights refuses methods and record types that there are not.
func (d *Directory) checkRights(t serviceTerms) error {
	for _, m := range t.Methods {
		if !slices.Contains(d.cfg.ServiceMethods, m) {
			return fmt.Errorf("%w: %.120q; use %s", ErrMethodUnknown, m, strings.Join(d.cfg.ServiceMethods, ", "))
		}
	}
	for _, r := range t.RecordTypes {
		if !slices.Contains(d.cfg.RecordTypes, r) {
			return fmt.Errorf("%w: %.80q; use %s", ErrRecordTypeUnknown, r, strings.Join(d.cfg.RecordTypes, ", "))
		}
	}
	return nil
}

// ChangeService changes what a service may do. It holds for calls that begin after it, and for seals that are not in the ledger yet. Where
// it takes two administrators, it returns the proposal instead.
func (d *Directory) ChangeService(ctx context.Context, caller Caller, id string, rights ServiceRights, reason string) (Signer, *Proposal, error) {
	bounds, err := d.boundsOf(rights)
	if err != nil {
		return Signer{}, nil, err
	}
	return d.actOn(ctx, caller, actChangeService, id, reason, changeContent{ID: id, Reason: reason, Rights: bounds})
}

// AddServiceCertificate admits another client certificate of a service, beside those that it has: so it can change them one after the
// other without a call that is refused. Where it takes two administrators, it returns the proposal instead.
func (d *Directory) AddServiceCertificate(ctx context.Context, caller Caller, id string, certificate []byte, reason string) (Signer, *Proposal, error) {
	if _, err := d.parseClient(certificate); err != nil {
		return Signer{}, nil, err
	}
	return d.actOn(ctx, caller, actAdmitCertificate, id, reason, certificateContent{Certificate: certificate, ID: id, Reason: reason})
}

// actOn does an act about a service, or proposes it.
func (d *Directory) actOn(ctx context.Context, caller Caller, kind, id, reason string, content any) (Signer, *Proposal, error) {
	if err := checkReason(reason); err != nil {
		return Signer{}, nil, err
	}
	done, p, err := d.Act(ctx, caller, kind, id, content, "")
	if err != nil || !done {
		return Signer{}, &p, err
	}
	s, err := d.Get(ctx, id)
	return s, nil, err
}

// RemoveServiceCertificate admits a client certificate of a service no longer: neither it nor its key. Connections that were made with it
// make no further call.
func (d *Directory) RemoveServiceCertificate(ctx context.Context, caller Caller, id, certificate, reason string) (Signer, error) {
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		return d.emitTerms(tx, caller, id, reason, nil, func(t *serviceTerms) error {
			i := t.client(certificate)
			if i < 0 {
				return fmt.Errorf("%w: %.64s", ErrCertificateNotFound, certificate)
			}
			t.Clients = slices.Delete(slices.Clone(t.Clients), i, i+1)
			return nil
		})
	})
	if err != nil {
		return Signer{}, err
	}
	d.settle(ctx, result)
	return d.Get(ctx, id)
}

// emitTerms changes the terms of a service. Who may is for whoever calls it to ask.
func (d *Directory) emitTerms(tx *ledger.Tx, caller Caller, id, reason string, attachments [][]byte, change func(t *serviceTerms) error) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	row, ok, err := getSigner(tx.View(projectionName), id)
	switch {
	case err != nil:
		return err
	case !ok || !row.Service:
		return ErrNotFound
	case row.State == StateRevoked:
		return wrongState(row)
	case id == manifest.ClosingService:
		return fmt.Errorf("%w: nobody calls as %s", ErrState, id)
	}
	before, err := serviceTermsOf(tx.Read, row)
	if err != nil {
		return err
	}
	after := before
	if err := change(&after); err != nil {
		return err
	}
	tx.Emit(ledger.Event{Type: chain.ServiceChanged, Actor: caller.Actor(), Attachments: attachments, Body: serviceChanged{
		ID: id, New: after, Old: before, Reason: reason,
	}})
	return nil
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
		pinned := serviceTerms{}
		if client != nil {
			pinned.Clients = []serviceClient{clientOf(client)}
		}
		if err := freeService(view, name, pinned); err != nil {
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
		return fmt.Errorf("%w: there is none", ErrCertificateInvalid)
	case len(c.Raw) > maxClientBytes:
		return fmt.Errorf("%w: it has %d bytes; at most %d", ErrCertificateInvalid, len(c.Raw), maxClientBytes)
	case spkiOf(c.Raw) == nil:
		return fmt.Errorf("%w: it cannot be read", ErrCertificateInvalid)
	case c.IsCA:
		return fmt.Errorf("%w: it is that of a CA; pin the service's own", ErrCertificateInvalid)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return fmt.Errorf("%w: it holds from %s to %s, not now", ErrCertificateInvalid, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return fmt.Errorf("%w: its extended key usage is not clientAuth", ErrCertificateInvalid)
	}
	return nil
}

// freeService refuses names, client certificates, keys and URIs that are or were another service's.
func freeService(view reader, name string, t serviceTerms) error {
	if view.Get(bucketNames, serviceName(name)) != nil {
		return fmt.Errorf("%w: %s", ErrNameTaken, name)
	}
	if t.URI != "" && view.Get(bucketPins, []byte("uri:"+t.URI)) != nil {
		return fmt.Errorf("%w: the URI %s is another service's", ErrCertificateTaken, t.URI)
	}
	for _, c := range t.Clients {
		if err := freeClient(view, "", c); err != nil {
			return err
		}
	}
	return nil
}

// freeClient refuses a client certificate that is, or whose key is, another service's than of this id, now or before.
func freeClient(view reader, id string, c serviceClient) error {
	for _, pin := range []string{"cert:" + c.Certificate, "spki:" + c.Key} {
		if owner := view.Get(bucketPins, []byte(pin)); owner != nil && string(owner) != id {
			return fmt.Errorf("%w: it, or its key, is another service's", ErrCertificateTaken)
		}
	}
	return nil
}
