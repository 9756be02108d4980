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
// organisation's CA is, and a sealing key is made for it in the HSM. A call that is retried under the same requestID gives the first answer.
func (d *Directory) EnrollService(ctx context.Context, caller Caller, e ServiceEnrolment, requestID string) (Signer, error) {
	name, organisation := fold(e.Name), e.Organisation
	if organisation == "" {
		organisation = d.cfg.Organisation
	}
	terms, err := d.enrolmentTerms(e)
	if err != nil {
		return Signer{}, err
	}
	hash, err := request(caller, "EnrollService", requestID, []any{name, organisation, terms})
	if err != nil {
		return Signer{}, err
	}
	body := manifest.ServiceEnrolled{
		Clients: []string{}, ID: newID("svc_"), Name: name, Organisation: organisation, Roles: []string{string(RoleService)},
	}
	for _, c := range terms.Clients {
		body.Clients = append(body.Clients, c.Certificate)
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
		return freeService(r.View(projectionName), name, terms)
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
		if err := freeService(view, name, terms); err != nil {
			return err
		}
		tx.Emit(made.event(caller.Actor(), "service"))
		attachments := [][]byte{made.certificate}
		if e.Client != nil {
			attachments = append(attachments, e.Client.Raw)
		}
		tx.Emit(ledger.Event{Type: chain.ServiceEnrolled, Actor: caller.Actor(), Request: hash, Body: body, Attachments: attachments})
		if !terms.unbounded() {
			tx.Emit(ledger.Event{Type: chain.ServiceChanged, Actor: caller.Actor(), Body: serviceChanged{
				ID: body.ID, New: terms, Old: serviceTerms{Clients: terms.Clients}.settled(), Reason: "enrolment",
			}})
		}
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

// enrolmentTerms are the terms of a service that is to be enrolled.
func (d *Directory) enrolmentTerms(e ServiceEnrolment) (serviceTerms, error) {
	t := serviceTerms{URI: e.URI}.settled()
	if (e.Client == nil) == (e.URI == "") {
		return t, fmt.Errorf("%w: give a certificate to pin, or the URI in certificates of the organisation's CA", ErrCertificateInvalid)
	}
	if e.Client != nil {
		if err := d.checkClient(e.Client); err != nil {
			return t, err
		}
		t.Clients = []serviceClient{clientOf(e.Client)}
	} else if err := d.checkURI(e.URI); err != nil {
		return t, err
	}
	return t, errJoinFirst(t.apply(e.Rights), d.checkRights(t))
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

// A ServiceChange is what an administrator changes of a service.
type ServiceChange struct {
	ID     string        `json:"id"`
	Reason string        `json:"reason"`
	Rights ServiceRights `json:"rights"`
}

// ChangeService changes what a service may do. It holds for calls that begin after it, and for seals that are not in the ledger yet.
func (d *Directory) ChangeService(ctx context.Context, caller Caller, c ServiceChange) (Signer, error) {
	return d.reterm(ctx, caller, c.ID, func(tx *ledger.Tx) error { return d.emitServiceChange(tx, caller, c) })
}

func (d *Directory) emitServiceChange(tx *ledger.Tx, caller Caller, c ServiceChange) error {
	return d.emitTerms(tx, caller, c.ID, c.Reason, nil, func(t *serviceTerms) error {
		return errJoinFirst(t.apply(c.Rights), d.checkRights(*t))
	})
}

// A ServiceCertificate is a client certificate that is to be admitted.
type ServiceCertificate struct {
	Certificate []byte `json:"certificate"` // DER
	ID          string `json:"id"`
	Reason      string `json:"reason"`
}

// AddServiceCertificate admits another client certificate of a service, beside those that it has: so it can change them one after the
// other without a call that is refused.
func (d *Directory) AddServiceCertificate(ctx context.Context, caller Caller, c ServiceCertificate) (Signer, error) {
	return d.reterm(ctx, caller, c.ID, func(tx *ledger.Tx) error { return d.emitServiceCertificate(tx, caller, c) })
}

func (d *Directory) emitServiceCertificate(tx *ledger.Tx, caller Caller, c ServiceCertificate) error {
	parsed, err := x509.ParseCertificate(c.Certificate)
	if err != nil {
		return fmt.Errorf("%w: it is not one in DER", ErrCertificateInvalid)
	}
	if err := d.checkClient(parsed); err != nil {
		return err
	}
	return d.emitTerms(tx, caller, c.ID, c.Reason, [][]byte{parsed.Raw}, func(t *serviceTerms) error {
		added := clientOf(parsed)
		if t.client(added.Certificate) >= 0 {
			return fmt.Errorf("%w: it is admitted already", ErrCertificateTaken)
		}
		if len(t.Clients) >= maxClients {
			return fmt.Errorf("%w: the service has %d; remove one first", ErrCertificateInvalid, len(t.Clients))
		}
		if err := freeClient(tx.View(projectionName), c.ID, added); err != nil {
			return err
		}
		t.Clients = append(slices.Clone(t.Clients), added)
		slices.SortFunc(t.Clients, func(a, b serviceClient) int { return strings.Compare(a.Certificate, b.Certificate) })
		return nil
	})
}

// RemoveServiceCertificate admits a client certificate of a service no longer: neither it nor its key. Connections that were made with it
// make no further call.
func (d *Directory) RemoveServiceCertificate(ctx context.Context, caller Caller, id, certificate, reason string) (Signer, error) {
	return d.reterm(ctx, caller, id, func(tx *ledger.Tx) error {
		return d.emitTerms(tx, caller, id, reason, nil, func(t *serviceTerms) error {
			i := t.client(certificate)
			if i < 0 {
				return fmt.Errorf("%w: %.64s", ErrCertificateNotFound, certificate)
			}
			t.Clients = slices.Delete(slices.Clone(t.Clients), i, i+1)
			return nil
		})
	})
}

// reterm runs a change of a service's terms.
func (d *Directory) reterm(ctx context.Context, caller Caller, id string, emit func(tx *ledger.Tx) error) (Signer, error) {
	result, err := d.ledger.Do(ctx, emit)
	if err != nil {
		return Signer{}, err
	}
	d.settle(ctx, result)
	return d.Get(ctx, id)
}

// emitTerms changes the terms of a service.
func (d *Directory) emitTerms(tx *ledger.Tx, caller Caller, id, reason string, attachments [][]byte, change func(t *serviceTerms) error) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	view := tx.View(projectionName)
	if err := d.mayAdminister(tx, caller); err != nil {
		return err
	}
	row, ok, err := getSigner(view, id)
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
