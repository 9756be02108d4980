package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/internal/tsa"
)

const (
	testIssuer   = "https://sign.example"
	adminPass    = Secret("brackish turnip weathervane 7")
	adaPass      = Secret("quiet Otter, granite umbrella")
	secondPass   = Secret("velvet harbour compass sundial")
	wrongPass    = Secret("some other words that are wrong")
	organisation = "Example Medical"
)

var (
	desk  = Source{Address: "192.0.2.7", Device: "signet-cli/1"}
	other = Source{Address: "198.51.100.9", Device: "signet-cli/1"}
	start = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
)

// failingKeys is a real key store that can be told to fail.
type failingKeys struct {
	*keystore.Store
	down atomic.Bool
	made atomic.Int64
}

func (k *failingKeys) Generate(ctx context.Context, s keystore.Spec) (keystore.Key, error) {
	if k.down.Load() {
		return keystore.Key{}, keystore.ErrUnavailable
	}
	k.made.Add(1)
	return k.Store.Generate(ctx, s)
}

// fixture is a directory on a real ledger and a real token.
type fixture struct {
	t       testing.TB
	clock   *ledgertest.Clock
	options ledger.Options
	ledger  *ledger.Ledger
	keys    *failingKeys
	root    *x509.Certificate
	caKey   keystore.Key
	ca      *CA
	config  Config
	d       *Directory
}

// newFixture returns a directory. The ledger is checked as a whole when the test ends, unless the test tampers with it.
func newFixture(t testing.TB) *fixture {
	f := prepareFixture(t)
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	return f
}

// prepareFixture returns everything but the open ledger and the directory.
func prepareFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: ledgertest.NewClock(start), keys: &failingKeys{Store: keystoretest.New(t)}}
	f.options = ledgertest.Options(t, Projection(), TestsProjection(), notify.Projection(), rights.Projection())
	f.options.Clock = f.clock.Now
	f.options.CheckPrivate = CheckPrivate
	f.caKey = keystoretest.Generate(t, f.keys.Store, "ca-1", keystore.ECDSAP384)
	var err error
	f.root, err = CreateRoot(t.Context(), RootConfig{
		Issuer: testIssuer,
		Name:   "Example Medical Signet CA", Organisation: organisation, Key: f.caKey, Keys: f.keys, Now: start.Add(-time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.ca, err = NewCA(CAConfig{Issuer: testIssuer, Key: f.caKey.ID, Certificate: f.root, Keys: f.keys, Clock: f.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.config = Config{
		Issuer: testIssuer, Organisation: organisation, Argon: ArgonParams{Memory: 64, Time: 1, Threads: 1}, Clock: f.clock.Now,
		Log: slog.New(slog.DiscardHandler),
	}
	f.stamp()
	return f
}

// stamp gives the directory a real time-stamping authority.
func (f *fixture) stamp() {
	f.t.Helper()
	key := keystoretest.Generate(f.t, f.keys.Store, "stamp-1", keystore.ECDSAP256)
	certificate, err := IssueTSA(f.t.Context(), TSAConfig{
		Name: "Example Medical Signet TSA", Organisation: organisation, Public: key.Public, CA: f.root, CAKey: f.caKey, Keys: f.keys, Now: start.Add(-time.Hour),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.config.Stamp = func(ctx context.Context, signature []byte) ([]byte, time.Time, error) {
		authority, err := tsa.New(tsa.Config{
			Key: key.ID, Public: key.Public, Certificate: certificate, Chain: []*x509.Certificate{f.root}, Policy: asn1.ObjectIdentifier{2, 999, 3161, 1},
			Accuracy: time.Second, Clock: f.clock.Now, Monotonic: func() time.Duration { return f.clock.Now().Sub(start) },
			LastEntry: func() time.Time { return f.ledger.LastTime().Time() },
			Sign: func(ctx context.Context, message []byte) ([]byte, error) {
				return f.keys.Sign(ctx, key.ID, key.Public, message)
			},
		})
		if err != nil {
			return nil, time.Time{}, err
		}
		return authority.Stamp(ctx, signature)
	}
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.d, err = New(f.config, f.ledger, f.keys, f.ca); err != nil {
		f.t.Fatal(err)
	}
}

// restart is a new process on the same file.
func (f *fixture) restart() {
	f.t.Helper()
	if err := f.ledger.Close(); err != nil {
		f.t.Fatal(err)
	}
	var err error
	if f.ledger, err = ledger.Open(f.t.Context(), f.options); err != nil {
		f.t.Fatal(err)
	}
	l := f.ledger
	f.t.Cleanup(func() { l.Close() })
	f.open()
}

func (f *fixture) invitation(userName, name string, roles ...Role) Invitation {
	return Invitation{
		UserName: userName, Name: name, Title: "QA Lead", Zone: "Europe/Berlin", Roles: roles,
		Proofing: Proofing{Method: "passport seen in person", Reference: "HR-2026-117"},
	}
}

// admin bootstraps and returns an administrator in a session.
func (f *fixture) admin() Caller {
	f.t.Helper()
	_, code, _, err := f.d.Bootstrap(f.t.Context(), f.invitation("root", "Grace Hopper", RoleAdministrator, RoleAuditor))
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.d.Redeem(f.t.Context(), desk, code, "root", adminPass, true); err != nil {
		f.t.Fatal(err)
	}
	return f.login("root", adminPass)
}

// login opens a session and authenticates with it.
func (f *fixture) login(userName string, password Secret) Caller {
	f.t.Helper()
	caller, _ := f.loginToken(userName, password)
	return caller
}

func (f *fixture) loginToken(userName string, password Secret) (Caller, Secret) {
	f.t.Helper()
	token, _, _, err := f.d.OpenSession(f.t.Context(), desk, userName, password)
	if err != nil {
		f.t.Fatal(err)
	}
	caller, err := f.d.Authenticate(f.t.Context(), token, nil, desk)
	if err != nil {
		f.t.Fatal(err)
	}
	return caller, token
}

// enrol invites a person and redeems the code.
func (f *fixture) enrol(admin Caller, userName, name string, password Secret, roles ...Role) Signer {
	f.t.Helper()
	_, code, _, err := f.d.InvitePerson(f.t.Context(), admin, f.invitation(userName, name, roles...), "")
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := f.d.Redeem(f.t.Context(), desk, code, userName, password, true)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// ada is a signer in a session.
func (f *fixture) ada() (admin, ada Caller, signer Signer) {
	f.t.Helper()
	admin = f.admin()
	signer = f.enrol(admin, "ada", "Ada Lovelace", adaPass, RoleSigner)
	return admin, f.login("ada", adaPass), signer
}

// identity returns who would sign.
func (f *fixture) identity(id string) (by SigningIdentity, err error) {
	f.t.Helper()
	err = f.ledger.View(func(r *ledger.Read) error {
		by, err = f.d.SigningIdentity(r, id)
		return err
	})
	return by, err
}

// entries returns the entries from an index on.
func (f *fixture) entries(from uint64) []chain.Entry {
	f.t.Helper()
	var list []chain.Entry
	err := f.ledger.Entries(f.t.Context(), from, f.ledger.Size(), func(_ uint64, b []byte) error {
		e, err := chain.ParseEntry(b)
		list = append(list, e)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// appended runs fn and returns the types of the entries that it left.
func (f *fixture) appended(fn func()) []chain.Type {
	f.t.Helper()
	from := f.ledger.Size()
	fn()
	types := []chain.Type{}
	for _, e := range f.entries(from) {
		types = append(types, e.Type)
	}
	return types
}

// client makes a client certificate of a service, signed by itself.
func client(t testing.TB, name string, key *ecdsa.PrivateKey, from, to time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// CheckPassword proves somebody for a signature with user name and password.
func (d *Directory) CheckPassword(ctx context.Context, caller Caller, userName string, password Secret, preparation string) error {
	_, err := d.ProveSignature(ctx, caller, Proof{UserName: userName, Password: password}, preparation, manifest.AuthorizationPassword, [32]byte{})
	return err
}
