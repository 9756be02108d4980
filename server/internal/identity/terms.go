package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors about services and networks. Compare with errors.Is.
var (
	// ErrCertificateInvalid: the client certificate (or the URI that stands for it) cannot be a service's: the message says why.
	ErrCertificateInvalid = fmt.Errorf("%w client certificate", ErrInvalid)
	// ErrCertificateTaken: the client certificate, its key or its URI is, or was, a service's.
	ErrCertificateTaken = errors.New("the client certificate is taken")
	// ErrCertificateNotFound: the service has no such client certificate.
	ErrCertificateNotFound = errors.New("the service has no such client certificate")
	// ErrMethodUnknown: there is no such method for a service.
	ErrMethodUnknown = errors.New("services have no such method")
	// ErrRecordTypeUnknown: there is no such record type.
	ErrRecordTypeUnknown = errors.New("there is no such record type")
	// ErrNetworkInvalid: it is no CIDR prefix.
	ErrNetworkInvalid = errors.New("this is no network")
	// ErrNetwork: the caller may not call from where they are.
	ErrNetwork = errors.New("calls are not admitted from this network")
	// ErrServiceDenied: the service may do other things, not this. An administrator can change its rights.
	ErrServiceDenied = errors.New("the service's rights do not allow this")
	// ErrAuthorities: whether a certificate of the organisation's CA still holds cannot be said.
	ErrAuthorities = errors.New("the client certificate cannot be judged now")
)

// ServiceRights is what a service may do. Each list that is empty bounds nothing.
type ServiceRights struct {
	Methods     []string // full names of methods
	RecordTypes []string // that it may seal
	Networks    []string // CIDR prefixes that it may call from
	Rate        float64  // calls a second; 0: the configuration's
	Burst       int      // calls at once beyond that
}

// serviceChanged: what a service may do from now on, and who it is to the server.
type serviceChanged struct {
	ID     string       `json:"id"`
	New    serviceTerms `json:"new"`
	Old    serviceTerms `json:"old"`
	Reason string       `json:"reason"`
}

// serviceTerms are the terms on which a service is admitted. The lists are sorted.
type serviceTerms struct {
	Burst       int             `json:"burst"`
	Clients     []serviceClient `json:"clients"`
	Methods     []string        `json:"methods"`
	Networks    []string        `json:"networks"`
	Rate        int64           `json:"rate"` // calls in 1000 seconds
	RecordTypes []string        `json:"recordTypes"`
	URI         string          `json:"uri"` // of a certificate of the organisation's CA; empty: none
}

// serviceClient is a pinned client certificate.
type serviceClient struct {
	Certificate string     `json:"certificate"` // SHA-256 of the DER in hex
	Expires     chain.Time `json:"expires"`
	Key         string     `json:"key"` // SHA-256 of the SubjectPublicKeyInfo in hex
}

const (
	maxClients = 16 // client certificates of a service
	maxListed  = 64 // members of a list of rights
	rateScale  = 1000
	// A certificate stands in a proposal, and an entry has 65,535 bytes.
	maxClientBytes = 16 << 10
	maxRate        = 1e6
	maxBurst       = 1e6
	sealMethod     = "/signet.v1.SigningService/Seal"
)

func clientOf(c *x509.Certificate) serviceClient {
	return serviceClient{Certificate: hexSum(c.Raw), Expires: chain.NewTime(c.NotAfter), Key: hexSum(c.RawSubjectPublicKeyInfo)}
}

// apply puts rights into terms, in their one form.
func (t *serviceTerms) apply(r ServiceRights) error {
	if r.Rate < 0 || r.Rate > maxRate || math.IsNaN(r.Rate) || r.Rate > 0 && r.Rate < 1.0/rateScale {
		return invalid("calls a second: %v; use 0, or 0.001 to %v", r.Rate, float64(maxRate))
	}
	if r.Burst < 0 || r.Burst > maxBurst {
		return invalid("burst: %d; use 0 to %d", r.Burst, int(maxBurst))
	}
	t.Rate, t.Burst = int64(math.Round(r.Rate*rateScale)), r.Burst
	t.Methods, t.RecordTypes, t.Networks = sorted(r.Methods), sorted(r.RecordTypes), []string{}
	for _, n := range r.Networks {
		p, err := ParseNetwork(n)
		if err != nil {
			return err
		}
		t.Networks = append(t.Networks, p.String())
	}
	t.Networks = sorted(t.Networks)
	if n := max(len(t.Methods), len(t.RecordTypes), len(t.Networks)); n > maxListed {
		return invalid("a list of %d; at most %d", n, maxListed)
	}
	return nil
}

// settled is the terms with lists that are empty where there are none.
func (t serviceTerms) settled() serviceTerms {
	if t.Clients == nil {
		t.Clients = []serviceClient{}
	}
	for _, list := range []*[]string{&t.Methods, &t.Networks, &t.RecordTypes} {
		if *list == nil {
			*list = []string{}
		}
	}
	return t
}

// unbounded reports whether the terms are those of an enrolment alone.
func (t serviceTerms) unbounded() bool {
	return t.URI == "" && t.Rate == 0 && t.Burst == 0 && len(t.Methods)+len(t.Networks)+len(t.RecordTypes) == 0
}

// sorted returns a list without repetitions, never nil.
func sorted(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return slices.Compact(out)
}

// ParseNetwork reads a CIDR prefix. An address alone stands for itself.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%w: %.80q; use a prefix such as 10.1.0.0/16 or 2001:db8::/32", ErrNetworkInvalid, s)
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%w: %.80q; write an IPv4 prefix as such", ErrNetworkInvalid, s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%w: %.80q; the prefix is %s", ErrNetworkInvalid, s, p.Masked())
	}
	return p, nil
}

// Within reports whether an address, as a [Source] has it, lies in one of the networks. An empty list bounds nothing.
func Within(networks []netip.Prefix, address string) bool {
	if len(networks) == 0 {
		return true
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// rights are the terms as others see them.
func (t serviceTerms) rights() ServiceRights {
	return ServiceRights{
		Methods: t.Methods, RecordTypes: t.RecordTypes, Networks: t.Networks, Rate: float64(t.Rate) / rateScale, Burst: t.Burst,
	}
}

// client returns the place of a pinned certificate; -1 if it is not admitted.
func (t serviceTerms) client(certificate string) int {
	return slices.IndexFunc(t.Clients, func(c serviceClient) bool { return c.Certificate == certificate })
}

// Terms are the terms on which a service is admitted, as its entry says, proved by inclusion. They are shared and never change.
type Terms struct {
	ID       string
	Index    uint64 // of the entry
	Rate     float64
	Burst    int
	terms    serviceTerms
	networks []netip.Prefix
	methods  map[string]bool
}

func newTerms(id string, index uint64, t serviceTerms) (*Terms, error) {
	out := &Terms{ID: id, Index: index, Rate: float64(t.Rate) / rateScale, Burst: t.Burst, terms: t, methods: map[string]bool{}}
	for _, n := range t.Networks {
		p, err := ParseNetwork(n)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		out.networks = append(out.networks, p)
	}
	for _, m := range t.Methods {
		out.methods[m] = true
	}
	return out, nil
}

// Calls reports whether the service may call a method.
func (t *Terms) Calls(method string) bool { return len(t.methods) == 0 || t.methods[method] }

// Seals reports whether the service may seal records of a type.
func (t *Terms) Seals(recordType string) bool {
	return len(t.terms.RecordTypes) == 0 || slices.Contains(t.terms.RecordTypes, recordType)
}

// admitted reports whether a call with this certificate (or with its key, or of this URI) is the service's.
func (t *Terms) admitted(c Client) bool {
	if c.URI != "" {
		return c.URI == t.terms.URI
	}
	return slices.ContainsFunc(t.terms.Clients, func(p serviceClient) bool { return p.Certificate == c.Certificate || p.Key == c.Key })
}

// Client is what a service has proved itself with: the digests of its client certificate and of the key in it.
type Client struct {
	Certificate string
	Key         string
	URI         string // not empty: the organisation's CA vouches for it
}

// termsCache keeps terms that were proved once, by the index of their entry.
type termsCache struct {
	mu   sync.RWMutex
	rows map[uint64]*Terms
}

func newTermsCache() *termsCache { return &termsCache{rows: map[uint64]*Terms{}} }

func (c *termsCache) get(index uint64) *Terms {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.rows[index]
}

func (c *termsCache) set(index uint64, t *Terms) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) >= maxProved {
		clear(c.rows)
	}
	c.rows[index] = t
}

// termsAt is the index of the entry that has a service's terms: the newest service.changed, or that of the enrolment.
func termsAt(row signerRow) uint64 {
	if row.Terms != 0 {
		return row.Terms
	}
	return row.Index
}

// proveTerms returns what a service may do, read from its entry, proved under the last signed checkpoint.
func (d *Directory) proveTerms(r Reader, row signerRow) (*Terms, error) {
	index := termsAt(row)
	t := d.terms.get(index)
	if t == nil {
		b, err := r.ProvedEntry(index)
		if err != nil {
			return nil, err
		}
		id, terms, err := readTerms(r, b, index)
		if err != nil {
			return nil, err
		}
		if t, err = newTerms(id, index, terms); err != nil {
			return nil, err
		}
		d.terms.set(index, t)
	}
	if t.ID != row.ID {
		return nil, errTamperedRow(index)
	}
	return t, nil
}

// readTerms reads the entry of a service's terms.
func readTerms(r interface {
	Attachments(index uint64) ([][]byte, error)
}, entry []byte, index uint64) (id string, t serviceTerms, err error) {
	e, err := chain.ParseEntry(entry)
	if err != nil {
		return "", t, err
	}
	switch e.Type {
	case chain.ServiceChanged:
		body, err := readBody[serviceChanged](e)
		return body.ID, body.New, err
	case chain.ServiceEnrolled:
		body, err := manifest.ParseServiceEnrolled(e.Body)
		if err != nil {
			return "", t, err
		}
		attachments, err := r.Attachments(index)
		if err != nil {
			return "", t, err
		}
		t, err = enrolledTerms(body, attachments)
		return body.ID, t, err
	}
	return "", t, errTamperedRow(index)
}

// enrolledTerms are the terms of a service that nothing has changed: everything that services may do, with the certificate that it was
// enrolled by. Attachments are what their digests in the entry say.
func enrolledTerms(body manifest.ServiceEnrolled, attachments [][]byte) (serviceTerms, error) {
	t := serviceTerms{}.settled()
	for _, digest := range body.Clients {
		i := slices.IndexFunc(attachments, func(a []byte) bool { return hexSum(a) == digest })
		if i < 0 {
			return t, fmt.Errorf("%w: the client certificate %s beside the enrolment of %s is missing", ErrTampered, digest, body.ID)
		}
		c, err := x509.ParseCertificate(attachments[i])
		if err != nil {
			return t, fmt.Errorf("client certificate of %s: %w", body.ID, err)
		}
		t.Clients = append(t.Clients, clientOf(c))
	}
	return t, nil
}

// MaySeal holds a service that is about to seal a record against its terms: the call, the record's type, and the certificate with which
// it calls are all still admitted. It may be called inside of a command.
func (d *Directory) MaySeal(r Reader, caller Caller, recordType string) error {
	row, ok, err := d.rows.get(r.View(projectionName), caller.ID)
	if err != nil || !ok || !row.Service {
		return errors.Join(err, unless(ok && row.Service, ErrNotFound))
	}
	t, err := d.proveTerms(r, row)
	if err != nil {
		return err
	}
	switch {
	case !t.admitted(caller.Client):
		return fmt.Errorf("%w: the client certificate is no longer admitted", ErrSession)
	case !t.Calls(sealMethod):
		return fmt.Errorf("%w: %s may not call %s", ErrServiceDenied, row.UserName, sealMethod)
	case !t.Seals(recordType):
		return fmt.Errorf("%w: %s may not seal records of the type %s", ErrServiceDenied, row.UserName, recordType)
	}
	return nil
}

// serviceTermsOf reads the terms of a service for showing them.
func serviceTermsOf(r *ledger.Read, row signerRow) (serviceTerms, error) {
	index := termsAt(row)
	b, err := r.Entry(index)
	if err != nil {
		return serviceTerms{}, err
	}
	_, t, err := readTerms(r, b, index)
	return t, err
}
