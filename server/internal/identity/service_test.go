package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

const whoAmI = "/signet.v1.SessionService/WhoAmI"

// services is a fixture in which services can be bounded.
func services(t *testing.T, change ...func(*Config)) (*fixture, Caller) {
	t.Helper()
	f := newFixture(t)
	f.config.ServiceMethods, f.config.RecordTypes = []string{sealMethod, whoAmI}, []string{"release", "document"}
	for _, c := range change {
		c(&f.config)
	}
	f.open()
	return f, f.admin()
}

func (f *fixture) service(admin Caller, name string, c *x509.Certificate, r ServiceRights) Signer {
	f.t.Helper()
	s, p, err := f.d.EnrollService(f.t.Context(), admin, ServiceEnrolment{Name: name, Client: c, Rights: r}, "")
	if err != nil || p != nil {
		f.t.Fatal(p, err)
	}
	return s
}

func (f *fixture) call(c *x509.Certificate, src Source, above ...*x509.Certificate) (Caller, error) {
	return f.d.Authenticate(f.t.Context(), "", c, src, above...)
}

// maySeal asks as Seal does.
func (f *fixture) maySeal(c Caller, recordType string) (err error) {
	f.t.Helper()
	view := f.ledger.View(func(r *ledger.Read) error {
		err = f.d.MaySeal(r, c, recordType)
		return nil
	})
	if view != nil {
		f.t.Fatal(view)
	}
	return err
}

// TestServiceRights: what a service may do is what its entry says, as it is now.
func TestServiceRights(t *testing.T) {
	f, admin := services(t)
	own := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	svc := f.service(admin, "ci", own, ServiceRights{Methods: []string{sealMethod}, RecordTypes: []string{"release"}, Networks: []string{"192.0.2.0/24", "2001:db8::7"}, Rate: 2.5, Burst: 7})
	want := ServiceRights{Methods: []string{sealMethod}, RecordTypes: []string{"release"}, Networks: []string{"192.0.2.0/24", "2001:db8::7/128"}, Rate: 2.5, Burst: 7}
	if !reflect.DeepEqual(svc.Rights, want) || len(svc.Clients) != 1 {
		t.Fatalf("%+v", svc)
	}
	t.Run("methods and record types", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		c := must(f.call(own, desk))
		if !c.Terms.Calls(sealMethod) || c.Terms.Calls(whoAmI) || c.Terms.Rate != 2.5 || c.Terms.Burst != 7 {
			t.Errorf("%+v", c.Terms)
		}
		if err := f.maySeal(c, "release"); err != nil {
			t.Error(err)
		}
		if err := f.maySeal(c, "document"); !errors.Is(err, ErrServiceDenied) {
			t.Errorf("another record type: %v", err)
		}
	})
	t.Run("networks", func(t *testing.T) {
		t.Attr("requirement", "11.10(h)")
		for address, ok := range map[string]bool{
			"192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::7": true, "2001:db8::8": false, "192.0.3.7": false, "": false, "desk": false,
		} {
			if c, err := f.call(own, Source{Address: address}); ok != (err == nil) || !ok && (!errors.Is(err, ErrNetwork) || c.ID != svc.ID) {
				t.Errorf("from %q: %v", address, err)
			}
		}
	})
	t.Run("a change holds for whoever calls already", func(t *testing.T) {
		c := must(f.call(own, desk))
		from := f.ledger.Size()
		changed, _, err := f.d.ChangeService(t.Context(), admin, svc.ID, ServiceRights{RecordTypes: []string{"document"}}, "another project")
		if err != nil || !reflect.DeepEqual(changed.Rights, ServiceRights{Methods: []string{}, RecordTypes: []string{"document"}, Networks: []string{}}) {
			t.Fatalf("%+v, %v", changed, err)
		}
		if err := f.maySeal(c, "release"); !errors.Is(err, ErrServiceDenied) {
			t.Errorf("the record type was taken away: %v", err)
		}
		if again := must(f.d.Again(c)); !again.Terms.Calls(whoAmI) {
			t.Error("the new rights do not hold")
		}
		e := f.entries(from)[0]
		body, err := readBody[serviceChanged](e)
		if err != nil || e.Type != chain.ServiceChanged || e.Actor.ID != admin.ID || body.Reason != "another project" || body.Old.Rate != 2500 || body.New.Rate != 0 ||
			!reflect.DeepEqual(body.Old.Networks, []string{"192.0.2.0/24", "2001:db8::7/128"}) || !reflect.DeepEqual(body.New.RecordTypes, []string{"document"}) {
			t.Errorf("%+v, %v", body, err)
		}
		must(f.call(own, other)) // from everywhere, now
	})
	t.Run("what cannot be is refused", func(t *testing.T) {
		for what, c := range map[string]struct {
			rights ServiceRights
			want   error
		}{
			"method":      {ServiceRights{Methods: []string{"/signet.v1.SigningService/Sign"}}, ErrMethodUnknown},
			"record type": {ServiceRights{RecordTypes: []string{"nothing"}}, ErrRecordTypeUnknown},
			"network":     {ServiceRights{Networks: []string{"10.0.0.1/8"}}, ErrNetworkInvalid},
			"rate":        {ServiceRights{Rate: 0.0001}, ErrInvalid},
			"burst":       {ServiceRights{Burst: -1}, ErrInvalid},
		} {
			if _, _, err := f.d.ChangeService(t.Context(), admin, svc.ID, c.rights, "why"); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, _, err := f.d.ChangeService(t.Context(), admin, svc.ID, ServiceRights{}, " "); !errors.Is(err, ErrInvalid) {
			t.Errorf("no reason: %v", err)
		}
		if _, _, err := f.d.ChangeService(t.Context(), must(f.call(own, desk)), svc.ID, ServiceRights{}, "why"); !errors.Is(err, ErrForbidden) {
			t.Errorf("a service for itself: %v", err)
		}
		if _, _, err := f.d.ChangeService(t.Context(), admin, admin.ID, ServiceRights{}, "why"); err == nil {
			t.Error("a person has no rights of a service")
		}
	})
}

// TestServiceCertificates: certificates are changed without a call that is refused, and are never another's.
func TestServiceCertificates(t *testing.T) {
	f, admin := services(t)
	old := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	key := p256(t)
	fresh := client(t, "ci", key, start.Add(-time.Hour), start.Add(96*time.Hour))
	svc := f.service(admin, "ci", old, ServiceRights{})
	f.service(admin, "other", client(t, "other", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour)), ServiceRights{})
	if _, err := f.call(fresh, desk); !errors.Is(err, ErrSession) {
		t.Fatalf("not admitted yet: %v", err)
	}
	from := f.ledger.Size()
	if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, svc.ID, fresh.Raw, "the old one lapses"); err != nil {
		t.Fatal(err)
	}
	e := f.entries(from)[0]
	if a, err := f.ledger.Attachments(e.Index); err != nil || len(a) != 1 || hexSum(a[0]) != hexSum(fresh.Raw) {
		t.Errorf("the certificate is not beside its entry: %v", err)
	}
	first, second := must(f.call(old, desk)), must(f.call(fresh, desk))
	if first.ID != svc.ID || second.ID != svc.ID || first.Session == second.Session {
		t.Errorf("%+v, %+v: want one service, and a session for each certificate", first, second)
	}
	if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, svc.ID, fresh.Raw, "again"); !errors.Is(err, ErrCertificateTaken) {
		t.Errorf("twice: %v", err)
	}
	now, err := f.d.RemoveServiceCertificate(t.Context(), admin, svc.ID, hexSum(old.Raw), "replaced")
	if err != nil || !reflect.DeepEqual(now.Clients, []string{hexSum(fresh.Raw)}) {
		t.Fatalf("%+v, %v", now, err)
	}
	if _, err := f.call(old, desk); !errors.Is(err, ErrSession) {
		t.Errorf("removed: %v", err)
	}
	if err := f.maySeal(first, "release"); !errors.Is(err, ErrSession) {
		t.Errorf("a seal in progress, with the removed certificate: %v", err)
	}
	if _, err := f.d.Again(first); !errors.Is(err, ErrSession) {
		t.Errorf("a stream, with the removed certificate: %v", err)
	}
	must(f.call(client(t, "ci", key, start.Add(-time.Hour), start.Add(200*time.Hour)), desk)) // renewed over the same key
	if _, err := f.d.RemoveServiceCertificate(t.Context(), admin, svc.ID, hexSum(old.Raw), "again"); !errors.Is(err, ErrCertificateNotFound) {
		t.Errorf("it is gone: %v", err)
	}
	t.Run("never another's", func(t *testing.T) {
		t.Attr("requirement", "11.300(a)")
		another := must(f.d.Lookup(t.Context(), "other"))
		for what, c := range map[string]*x509.Certificate{"one in use": fresh, "one that was removed": old} {
			if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, another.ID, c.Raw, "mine"); !errors.Is(err, ErrCertificateTaken) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("bounded", func(t *testing.T) {
		for i := len(now.Clients); i < maxClients; i++ {
			if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, svc.ID, client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(time.Hour)).Raw, "more"); err != nil {
				t.Fatal(i, err)
			}
		}
		if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, svc.ID, client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(time.Hour)).Raw, "more"); !errors.Is(err, ErrCertificateInvalid) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a certificate of a lapsed or strange kind", func(t *testing.T) {
		for what, der := range map[string][]byte{
			"lapsed": client(t, "ci", p256(t), start.Add(-2*time.Hour), start.Add(-time.Hour)).Raw, "a CA's": f.root.Raw, "nothing": {0x30, 0},
		} {
			if _, _, err := f.d.AddServiceCertificate(t.Context(), admin, svc.ID, der, "why"); !errors.Is(err, ErrCertificateInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestServiceFourEyes: what gives a service a right takes two administrators, what takes one away takes one.
func TestServiceFourEyes(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	f, admin := services(t)
	own := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	svc := f.service(admin, "ci", own, ServiceRights{RecordTypes: []string{"release"}})
	f.enrol(admin, "hedy", "Hedy Lamarr", secondPass, RoleAdministrator)
	hedy := f.login("hedy", secondPass)

	_, p, err := f.d.ChangeService(t.Context(), admin, svc.ID, ServiceRights{Rate: 5}, "everything")
	if err != nil || p == nil || !strings.Contains(p.Rendering, "seal records of each type") {
		t.Fatalf("%+v, %v", p, err)
	}
	if now := must(f.d.Get(t.Context(), svc.ID)); !reflect.DeepEqual(now.Rights.RecordTypes, []string{"release"}) {
		t.Fatal("one administrator was enough")
	}
	f.confirm(hedy, p, "hedy", secondPass)
	if now := must(f.d.Get(t.Context(), svc.ID)); len(now.Rights.RecordTypes) != 0 || now.Rights.Rate != 5 {
		t.Fatalf("%+v", now.Rights)
	}

	fresh := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	_, p, err = f.d.AddServiceCertificate(t.Context(), admin, svc.ID, fresh.Raw, "the old one lapses")
	if err != nil || p == nil || !strings.Contains(p.Rendering, hexSum(fresh.Raw)) {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := f.call(fresh, desk); !errors.Is(err, ErrSession) {
		t.Fatalf("one administrator was enough: %v", err)
	}
	f.confirm(hedy, p, "hedy", secondPass)
	must(f.call(fresh, desk))

	made := f.keys.made.Load()
	_, p, err = f.d.EnrollService(t.Context(), admin, ServiceEnrolment{Name: "nightly", Client: client(t, "n", p256(t), start.Add(-time.Hour), start.Add(time.Hour)), Rights: ServiceRights{RecordTypes: []string{"document"}}}, "")
	if err != nil || p == nil || f.keys.made.Load() != made {
		t.Fatalf("%+v, %v", p, err)
	}
	f.confirm(hedy, p, "hedy", secondPass)
	if s := must(f.d.Lookup(t.Context(), "nightly")); !s.Service || s.KeyID == "" || !reflect.DeepEqual(s.Rights.RecordTypes, []string{"document"}) {
		t.Fatalf("%+v", s)
	}

	if _, err := f.d.RemoveServiceCertificate(t.Context(), admin, svc.ID, hexSum(own.Raw), "stolen"); err != nil {
		t.Fatalf("what takes a right away waits for nobody: %v", err)
	}
	if _, err := f.call(own, desk); !errors.Is(err, ErrSession) {
		t.Errorf("removed: %v", err)
	}
}

// TestServiceTampering: whoever changes the file while the server is stopped admits no certificate and no right.
func TestServiceTampering(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	f := prepareFixture(t)
	f.config.ServiceMethods, f.config.RecordTypes = []string{sealMethod}, []string{"release", "document"}
	open := func() {
		var err error
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		f.open()
	}
	open()
	t.Cleanup(func() { f.ledger.Close() })
	admin := f.admin()
	own := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	evil := client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour))
	svc := f.service(admin, "ci", own, ServiceRights{RecordTypes: []string{"release"}})
	wide := f.service(admin, "wide", client(t, "wide", p256(t), start.Add(-time.Hour), start.Add(48*time.Hour)), ServiceRights{Burst: 1})
	var index uint64
	tamper := func(change func()) {
		t.Helper()
		if err := f.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		change()
		open()
	}
	row := func(id string, change func(*signerRow)) {
		editRow(t, f.options.Path, bucketSigners, func(rows map[string][]byte) {
			var r signerRow
			unmarshal(t, rows[id], &r)
			change(&r)
			rows[id] = marshal(t, r)
		})
	}
	tamper(func() {
		editRow(t, f.options.Path, bucketPins, func(rows map[string][]byte) {
			rows["cert:"+hexSum(evil.Raw)], rows["spki:"+hexSum(evil.RawSubjectPublicKeyInfo)] = []byte(svc.ID), []byte(svc.ID)
		})
	})
	if _, err := f.call(evil, desk); !errors.Is(err, ErrSession) {
		t.Errorf("a pinned certificate that no entry has: %v", err)
	}
	tamper(func() {
		row(wide.ID, func(r *signerRow) { index = r.Terms })
		row(svc.ID, func(r *signerRow) { r.Terms = index })
	})
	if _, err := f.call(own, desk); !errors.Is(err, ErrTampered) {
		t.Errorf("the rights of another service: %v", err)
	}
	tamper(func() { row(svc.ID, func(r *signerRow) { r.Terms = 1 }) })
	if _, err := f.call(own, desk); !errors.Is(err, ErrTampered) {
		t.Errorf("rights in an entry that has none: %v", err)
	}
}

// authority is a CA of the organisation.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, above *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: p256(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Example CA"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent, key := template, a.key
	if above != nil {
		template.Subject.CommonName = "Example Issuing CA"
		parent, key = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, a.key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = must(x509.ParseCertificate(der))
	return a
}

func (a *authority) issue(change func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ci"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(500 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/ci"}},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, p256(a.t).Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return must(x509.ParseCertificate(der))
}

func (a *authority) list(file string, from, to time.Time, revoked ...*x509.Certificate) {
	a.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: from, NextUpdate: to}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, file, "X509 CRL", der)
}

func write(t *testing.T, file, kind string, ders ...[]byte) {
	t.Helper()
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(file+".new", out, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestClientAuthorities: a service can be known by the URI in certificates of the organisation's CA.
func TestClientAuthorities(t *testing.T) {
	t.Attr("requirement", "11.10(h)")
	root := newAuthority(t, nil)
	issuing, stranger := newAuthority(t, root), newAuthority(t, nil)
	dir := t.TempDir()
	file, list, lower := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "root.crl"), filepath.Join(dir, "issuing.crl")
	write(t, file, "CERTIFICATE", root.cert.Raw)
	const uri = "spiffe://example.com/ci"
	build := func(t *testing.T, lists ...string) (*fixture, Signer) {
		t.Helper()
		f, admin := services(t, func(c *Config) {
			c.ClientAuthorities = must(NewClientAuthorities([]string{file}, lists, c.Clock, slog.New(slog.DiscardHandler)))
		})
		s, _, err := f.d.EnrollService(t.Context(), admin, ServiceEnrolment{Name: "ci", URI: uri}, "")
		if err != nil || s.ClientURI != uri || len(s.Clients) != 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if _, _, err := f.d.EnrollService(t.Context(), admin, ServiceEnrolment{Name: "again", URI: uri}, ""); !errors.Is(err, ErrCertificateTaken) {
			t.Errorf("the URI of another service: %v", err)
		}
		return f, s
	}
	t.Run("by its URI", func(t *testing.T) {
		f, svc := build(t)
		for _, c := range []*x509.Certificate{root.issue(nil), root.issue(nil)} { // rotation is the CA's business
			if caller, err := f.call(c, desk); err != nil || caller.ID != svc.ID || caller.Client.URI != uri {
				t.Fatalf("%+v, %v", caller, err)
			} else if err := f.maySeal(caller, "release"); err != nil {
				t.Error(err)
			}
		}
		if caller, err := f.call(issuing.issue(nil), desk, issuing.cert); err != nil || caller.ID != svc.ID {
			t.Errorf("through an issuing CA: %v", err)
		}
		e := f.entries(f.ledger.Size() - 1)[0]
		if body, err := readBody[sessionOpened](e); err != nil || body.URI != uri || len(body.Client) != 64 {
			t.Errorf("%+v, %v", body, err)
		}
	})
	t.Run("by nothing else", func(t *testing.T) {
		f, _ := build(t)
		for what, c := range map[string]*x509.Certificate{
			"another CA":             stranger.issue(nil),
			"its issuer is not sent": issuing.issue(nil),
			"another URI":            root.issue(func(c *x509.Certificate) { c.URIs[0].Path = "/other" }),
			"another case":           root.issue(func(c *x509.Certificate) { c.URIs[0].Path = "/CI" }),
			"no URI":                 root.issue(func(c *x509.Certificate) { c.URIs = nil }),
			"two URIs": root.issue(func(c *x509.Certificate) {
				c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "example.com", Path: "/x"})
			}),
			"a name beside it":     root.issue(func(c *x509.Certificate) { c.DNSNames = []string{"ci.example.com"} }),
			"a server certificate": root.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			"the CA itself":        root.cert,
		} {
			if _, err := f.call(c, desk); !errors.Is(err, ErrSession) {
				t.Errorf("%s: %v", what, err)
			}
		}
		lapsed := root.issue(func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Minute) })
		if _, err := f.call(lapsed, desk); !errors.Is(err, ErrCertificateExpired) {
			t.Errorf("lapsed: %v", err)
		}
	})
	t.Run("revoked, and read again without a restart", func(t *testing.T) {
		root.list(list, start.Add(-time.Hour), start.Add(24*time.Hour))
		issuing.list(lower, start.Add(-time.Hour), start.Add(24*time.Hour))
		f, _ := build(t, list, lower)
		good, bad := root.issue(nil), issuing.issue(nil)
		must(f.call(good, desk))
		must(f.call(bad, desk, issuing.cert))
		issuing.list(lower, start.Add(-time.Minute), start.Add(24*time.Hour), bad)
		f.clock.Add(reloadEvery)
		if _, err := f.call(bad, desk, issuing.cert); !errors.Is(err, ErrSession) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("revoked: %v", err)
		}
		must(f.call(good, desk))
		root.list(list, start.Add(-time.Minute), start.Add(24*time.Hour), issuing.cert)
		f.clock.Add(reloadEvery)
		if _, err := f.call(issuing.issue(nil), desk, issuing.cert); !errors.Is(err, ErrSession) {
			t.Errorf("its issuer is revoked: %v", err)
		}
		if err := os.WriteFile(list, []byte("no list"), 0o600); err != nil {
			t.Fatal(err)
		}
		f.clock.Add(reloadEvery)
		must(f.call(good, desk)) // the list that was read before holds
		f.clock.Add(25 * time.Hour)
		if _, err := f.call(good, desk); !errors.Is(err, ErrAuthorities) {
			t.Errorf("the list has lapsed: %v", err)
		}
		root.list(list, f.clock.Now().Add(-time.Minute), f.clock.Now().Add(24*time.Hour))
		f.clock.Add(reloadEvery)
		must(f.call(good, desk))
	})
	t.Run("a new CA without a restart", func(t *testing.T) {
		f, svc := build(t)
		if _, err := f.call(stranger.issue(nil), desk); !errors.Is(err, ErrSession) {
			t.Fatalf("%v", err)
		}
		write(t, file, "CERTIFICATE", root.cert.Raw, stranger.cert.Raw)
		f.clock.Add(reloadEvery)
		if c, err := f.call(stranger.issue(nil), desk); err != nil || c.ID != svc.ID {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("files that are none", func(t *testing.T) {
		write(t, filepath.Join(dir, "leaf.pem"), "CERTIFICATE", root.issue(nil).Raw)
		for what, files := range map[string][]string{"no CA": {filepath.Join(dir, "leaf.pem")}, "missing": {filepath.Join(dir, "none")}, "a list": {lower}} {
			if a, err := NewClientAuthorities(files, nil, time.Now, slog.New(slog.DiscardHandler)); err == nil {
				t.Errorf("%s: %+v", what, a)
			}
		}
		if _, err := NewClientAuthorities(nil, []string{lower}, time.Now, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInvalid) {
			t.Errorf("lists without authorities: %v", err)
		}
	})
}

func TestNetworks(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8::/32": "2001:db8::/32", "::1": "::1/128",
		"0.0.0.0/0": "0.0.0.0/0", "10.0.0.1/8": "", "": "", "10.0.0.0/33": "", "example.com": "", "fe80::1%eth0": "", "::ffff:10.0.0.0/104": "", "10.0.0/8": "",
	} {
		p, err := ParseNetwork(s)
		if want == "" && !errors.Is(err, ErrNetworkInvalid) || want != "" && (err != nil || p.String() != want) {
			t.Errorf("%q: %s, %v", s, p, err)
		}
	}
}

// TestSources: where somebody called from is kept as the policy says, and can be erased.
func TestSources(t *testing.T) {
	t.Attr("requirement", "C-104")
	t.Run("kept", func(t *testing.T) {
		t.Attr("requirement", "C-105")
		f, admin := services(t)
		s, err := f.d.GetSource(t.Context(), admin.Source)
		if err != nil || s.Source != desk || s.Erased {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := f.d.GetSource(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, ErrSourceNotFound) {
			t.Errorf("%v", err)
		}
	})
	t.Run("never stored", func(t *testing.T) {
		f, admin := services(t, func(c *Config) { c.Sources = SourcesCommitmentOnly })
		if len(admin.Source) != 64 {
			t.Fatalf("no commitment: %+v", admin)
		}
		if s, err := f.d.GetSource(t.Context(), admin.Source); !errors.Is(err, ErrSourceNotFound) {
			t.Errorf("%+v, %v", s, err)
		}
		if err := f.ledger.View(func(r *ledger.Read) error {
			r.EachPrivate(privateSources, func(k, _ []byte) bool {
				t.Errorf("%s is stored", k)
				return true
			})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("erased, and does not come back", func(t *testing.T) {
		f, admin, _ := func() (*fixture, Caller, Signer) {
			f := newFixture(t)
			a, _, s := f.ada()
			return f, a, s
		}()
		gone := admin.Source
		stale, err := f.d.sources.of(desk) // as a call holds it whose entry is appended after the erasure
		if err != nil || stale.commitment != gone {
			t.Fatal(stale.commitment, gone, err)
		}
		types := f.appended(func() {
			list, p, err := f.d.EraseSources(t.Context(), admin, SourceErasure{Reason: "asked for", Sources: []string{gone, strings.Repeat("1", 64)}})
			if err != nil || p != nil || !reflect.DeepEqual(list, []string{gone}) {
				t.Fatalf("%v, %v, %v", list, p, err)
			}
		})
		if !reflect.DeepEqual(types, []chain.Type{chain.SourceErased}) {
			t.Errorf("%v", types)
		}
		if s, err := f.d.GetSource(t.Context(), gone); err != nil || !s.Erased || s.Source != (Source{}) || s.EraseEntry != f.ledger.Size()-1 {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := f.ledger.Do(t.Context(), func(tx *ledger.Tx) error {
			stale.put(tx)
			tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: admin.Actor(), Body: accessDenied{Count: 1, Method: "m", Reason: "r"}})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if s, _ := f.d.GetSource(t.Context(), gone); !s.Erased {
			t.Error("it came back")
		}
		again := f.login("ada", adaPass)
		if s, err := f.d.GetSource(t.Context(), again.Source); err != nil || s.Source != desk || again.Source == gone {
			t.Errorf("the same place, later: %+v, %v", s, err)
		}
		if _, _, err := f.d.EraseSources(t.Context(), admin, SourceErasure{Reason: "again", Sources: []string{gone}}); !errors.Is(err, ErrSourceNotFound) {
			t.Errorf("twice: %v", err)
		}
		if _, _, err := f.d.EraseSources(t.Context(), again, SourceErasure{Reason: "mine", Sources: []string{again.Source}}); !errors.Is(err, ErrForbidden) {
			t.Errorf("by a signer: %v", err)
		}
		f.restart()
		if s, err := f.d.GetSource(t.Context(), gone); err != nil || !s.Erased {
			t.Errorf("%+v, %v", s, err)
		}
	})
	t.Run("one that came back is found", func(t *testing.T) {
		f := prepareFixture(t)
		var err error
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		f.open()
		admin := f.admin()
		var kept []byte
		if err := f.ledger.View(func(r *ledger.Read) error {
			kept = append(kept, r.GetPrivate(privateSources, []byte(admin.Source))...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		f.enrol(admin, "ada", "Ada Lovelace", adaPass, RoleSigner)
		if _, _, _, err := f.d.OpenSession(t.Context(), other, "ada", adaPass); err != nil { // so that the store is not empty
			t.Fatal(err)
		}
		if _, _, err := f.d.EraseSources(t.Context(), admin, SourceErasure{Reason: "asked for", Sources: []string{admin.Source}}); err != nil {
			t.Fatal(err)
		}
		if err := f.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		edit(t, f.options.Path, "private", privateSources, func(rows map[string][]byte) { rows[admin.Source] = kept })
		if f.ledger, err = ledger.Open(t.Context(), f.options); err != nil {
			t.Fatal(err)
		}
		defer f.ledger.Close()
		if err := f.ledger.View(CheckPrivate); !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), "was erased") {
			t.Errorf("%v", err)
		}
	})
}

// TestRefusalsAreCounted: one entry can stand for many refusals.
func TestRefusalsAreCounted(t *testing.T) {
	f, _ := services(t)
	from := f.ledger.Size()
	if err := f.d.Refused(t.Context(), Caller{}, Source{Address: "198.51.100.9"}, "connect grpc", "network", 17); err != nil {
		t.Fatal(err)
	}
	e := f.entries(from)[0]
	var body map[string]any
	if err := json.Unmarshal(e.Body, &body); err != nil || e.Type != chain.AccessDenied || body["count"] != 17.0 || e.Actor.Kind != chain.System {
		t.Errorf("%v, %v", body, err)
	}
	if s, err := f.d.GetSource(t.Context(), e.Actor.Source); err != nil || s.Address != "198.51.100.9" {
		t.Errorf("%+v, %v", s, err)
	}
}
