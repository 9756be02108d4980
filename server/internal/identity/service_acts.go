package identity

import (
	"context"
	"crypto/x509"
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// The acts about services that take two administrators. What takes a right away takes one.
const (
	actEnrolService     = "service.enrol"
	actChangeService    = "service.change"
	actAdmitCertificate = "service.certificate"
	actEraseSources     = "source.erase"
)

func (d *Directory) serviceActs() []ActKind {
	return []ActKind{
		{Kind: actEnrolService, Render: d.renderEnrolService, Prepare: d.prepareEnrolService, Do: d.doEnrolService},
		{Kind: actChangeService, Render: d.renderChangeService, Do: d.doChangeService},
		{Kind: actAdmitCertificate, Render: d.renderAdmitCertificate, Do: d.doAdmitCertificate},
		{Kind: actEraseSources, Render: d.renderEraseSources, Do: d.doEraseSources},
	}
}

// serviceBounds are rights as the content of an act has them: sorted, without fractions.
type serviceBounds struct {
	Burst       int      `json:"burst"`
	Methods     []string `json:"methods"`
	Networks    []string `json:"networks"`
	Rate        int64    `json:"rate"` // calls in 1000 seconds
	RecordTypes []string `json:"recordTypes"`
}

// boundsOf puts rights into their one form, and refuses those that there are not.
func (d *Directory) boundsOf(r ServiceRights) (serviceBounds, error) {
	t := serviceTerms{}
	if err := t.apply(r); err != nil {
		return serviceBounds{}, err
	}
	return serviceBounds{Burst: t.Burst, Methods: t.Methods, Networks: t.Networks, Rate: t.Rate, RecordTypes: t.RecordTypes}, d.checkRights(t)
}

// bind puts bounds that were proposed into terms: they are judged again, as of now.
func (d *Directory) bind(t *serviceTerms, b serviceBounds) error {
	r := ServiceRights{Methods: b.Methods, RecordTypes: b.RecordTypes, Networks: b.Networks, Rate: float64(b.Rate) / rateScale, Burst: b.Burst}
	return errJoinFirst(t.apply(r), d.checkRights(*t))
}

// words says what the bounds are.
func (b serviceBounds) words() string {
	list := func(what string, l []string, all string) string {
		if len(l) == 0 {
			return all
		}
		return what + strings.Join(l, ", ")
	}
	out := []string{
		list("It may call ", b.Methods, "It may call whatever services may"), list("seal records of the types ", b.RecordTypes, "seal records of each type"),
		list("from ", b.Networks, "from each network that services may call from"),
	}
	if b.Rate > 0 {
		out = append(out, fmt.Sprintf("%v times a second, and %d at once beyond that", float64(b.Rate)/rateScale, b.Burst))
	}
	return strings.Join(out, "; ") + "."
}

type enrolmentContent struct {
	Certificate  []byte        `json:"certificate"` // DER; empty: the URI
	Name         string        `json:"name"`
	Organisation string        `json:"organisation"`
	Rights       serviceBounds `json:"rights"`
	URI          string        `json:"uri"`
}

// readEnrolmentContent holds a service that is to be enrolled against the rules, as of now.
func (d *Directory) readEnrolmentContent(c enrolmentContent) (serviceTerms, *x509.Certificate, error) {
	t := serviceTerms{URI: c.URI}.settled()
	if (len(c.Certificate) == 0) == (c.URI == "") {
		return t, nil, fmt.Errorf("%w: give a certificate to pin, or the URI in certificates of the organisation's CA", ErrCertificateInvalid)
	}
	var client *x509.Certificate
	if c.URI == "" {
		var err error
		if client, err = d.parseClient(c.Certificate); err != nil {
			return t, nil, err
		}
		t.Clients = []serviceClient{clientOf(client)}
	} else if err := d.checkURI(c.URI); err != nil {
		return t, nil, err
	}
	return t, client, errJoinFirst(d.bind(&t, c.Rights), checkService(c.body("svc_x", t)))
}

// body is what will stand in service.enrolled, without the key.
func (c enrolmentContent) body(id string, t serviceTerms) manifest.ServiceEnrolled {
	b := manifest.ServiceEnrolled{Clients: []string{}, ID: id, Name: c.Name, Organisation: c.Organisation, Roles: []string{string(RoleService)}}
	for _, client := range t.Clients {
		b.Clients = append(b.Clients, client.Certificate)
	}
	return b
}

func (d *Directory) parseClient(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not one in DER", ErrCertificateInvalid)
	}
	return c, d.checkClient(c)
}

func (d *Directory) renderEnrolService(c jsontext.Value) (string, error) {
	e, err := content[enrolmentContent](c)
	if err != nil {
		return "", err
	}
	known := "known by the URI " + e.URI + " in certificates of the organisation's CA"
	if e.URI == "" {
		client, err := x509.ParseCertificate(e.Certificate)
		if err != nil {
			return "", fmt.Errorf("%w: it is not one in DER", ErrCertificateInvalid)
		}
		known = "known by the client certificate " + hexSum(client.Raw) + ", which holds until " + client.NotAfter.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("Enrol the service %s of %s, %s. %s", e.Name, e.Organisation, known, e.Rights.words()), nil
}

// preparedService is a service's key and its id.
type preparedService struct {
	id   string
	made *certified
}

// prepareEnrolService makes the sealing key.
func (d *Directory) prepareEnrolService(ctx context.Context, e Execution) (any, func(context.Context, error), error) {
	c, err := content[enrolmentContent](e.Content)
	if err != nil {
		return nil, nil, err
	}
	answered := false
	err = d.ledger.View(func(r *ledger.Read) error {
		answered = e.Request != "" && len(r.Request(e.Request)) > 0
		return nil
	})
	if err != nil || answered { // a retried call: no key is needed
		return nil, nil, err
	}
	p := preparedService{id: newID("svc_")}
	if p.made, err = d.certify(ctx, Subject{ID: p.id, Name: c.Name, Organisation: c.Organisation, Service: true}); err != nil {
		return nil, nil, err
	}
	return p, func(ctx context.Context, cause error) { d.discardAfter(ctx, p.made, cause) }, nil
}

func (d *Directory) doEnrolService(tx *ledger.Tx, e Execution) error {
	c, err := content[enrolmentContent](e.Content)
	if err != nil {
		return err
	}
	terms, client, err := d.readEnrolmentContent(c)
	if err != nil {
		return err
	}
	if err := d.MayCertify(tx); err != nil {
		return err
	}
	if err := freeService(tx.View(projectionName), c.Name, terms); err != nil || e.Trial {
		return err
	}
	p, ok := e.Prepared.(preparedService)
	if !ok {
		return fmt.Errorf("%s: no key was prepared", actEnrolService)
	}
	body := c.body(p.id, terms)
	body.KeyID, body.Certificate = p.made.key.KeyID, hexSum(p.made.certificate)
	attachments := [][]byte{p.made.certificate}
	if client != nil {
		attachments = append(attachments, client.Raw)
	}
	actor := e.Caller.Actor()
	tx.Emit(p.made.event(actor, "service"))
	tx.Emit(ledger.Event{Type: chain.ServiceEnrolled, Actor: actor, Request: e.Request, Body: body, Attachments: attachments})
	if !terms.unbounded() {
		tx.Emit(ledger.Event{Type: chain.ServiceChanged, Actor: actor, Body: serviceChanged{
			ID: p.id, New: terms, Old: serviceTerms{Clients: terms.Clients}.settled(), Reason: "enrolment",
		}})
	}
	return nil
}

type changeContent struct {
	ID     string        `json:"id"`
	Reason string        `json:"reason"`
	Rights serviceBounds `json:"rights"`
}

func (d *Directory) renderChangeService(c jsontext.Value) (string, error) {
	e, err := content[changeContent](c)
	return fmt.Sprintf("Change what the service %s may do: %s. %s", e.ID, e.Reason, e.Rights.words()), err
}

func (d *Directory) doChangeService(tx *ledger.Tx, e Execution) error {
	c, err := content[changeContent](e.Content)
	if err != nil {
		return err
	}
	return d.emitTerms(tx, e.Caller, c.ID, c.Reason, nil, func(t *serviceTerms) error { return d.bind(t, c.Rights) })
}

type certificateContent struct {
	Certificate []byte `json:"certificate"` // DER
	ID          string `json:"id"`
	Reason      string `json:"reason"`
}

func (d *Directory) renderAdmitCertificate(c jsontext.Value) (string, error) {
	e, err := content[certificateContent](c)
	if err != nil {
		return "", err
	}
	client, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return "", fmt.Errorf("%w: it is not one in DER", ErrCertificateInvalid)
	}
	return fmt.Sprintf("Let the service %s call with the client certificate %s (%s), which holds until %s: %s.", e.ID, hexSum(client.Raw), client.Subject,
		client.NotAfter.UTC().Format(time.RFC3339), e.Reason), nil
}

func (d *Directory) doAdmitCertificate(tx *ledger.Tx, e Execution) error {
	c, err := content[certificateContent](e.Content)
	if err != nil {
		return err
	}
	client, err := d.parseClient(c.Certificate)
	if err != nil {
		return err
	}
	return d.emitTerms(tx, e.Caller, c.ID, c.Reason, [][]byte{client.Raw}, func(t *serviceTerms) error {
		added := clientOf(client)
		switch {
		case t.client(added.Certificate) >= 0:
			return fmt.Errorf("%w: it is admitted already", ErrCertificateTaken)
		case len(t.Clients) >= maxClients:
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
