package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// Names of the service's own signers.
const (
	closingName = "signet closing"
	sealingName = "signet sealing"
	sealingID   = "svc_sealing"
)

// Administrator is the first administrator.
type Administrator struct {
	UserName          string
	Name              string
	Title             string
	Zone              string
	ProofingMethod    string
	ProofingReference string
}

// Created is what Init made.
type Created struct {
	TrustFile         string
	ServerCertificate string // PEM file that clients pin
	SealingClient     string // PEM file with the certificate (and beside it the key) of the first service
	Code              keystore.Secret
	CodeExpires       time.Time
}

// ErrInitialised says that there is a service already.
var ErrInitialised = errors.New("already initialised")

// Init makes a new service in the data folder: the key ceremony in the token, the certificates, the ledger's first entries (each key with its
// attributes as read back), the trust file, and the first administrator's one-time code. progress is told each step.
func Init(ctx context.Context, o Options, admin Administrator, progress func(step string)) (_ Created, err error) {
	o.defaults()
	c := o.Config
	if err := c.Validate(); err != nil {
		return Created{}, err
	}
	if _, err := os.Lstat(c.Path(LedgerFile)); !errors.Is(err, fs.ErrNotExist) {
		return Created{}, fmt.Errorf("%w: %s holds a ledger; start it with `signetd serve`, or choose another folder", ErrInitialised, c.DataDir)
	}
	for _, dir := range []string{c.DataDir, c.Path(BlobFolder), filepath.Dir(c.Path(c.Listen.Key))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Created{}, fmt.Errorf("data folder: %w", err)
		}
	}

	keys := map[string]keystore.Key{}
	for _, k := range ceremonyKeys {
		progress(fmt.Sprintf("making the %s key (%s) in the HSM", k.role, k.algorithm))
		key, err := o.Keys.Generate(ctx, keystore.Spec{ID: k.id, Algorithm: k.algorithm})
		if err != nil {
			return Created{}, fmt.Errorf("key ceremony: %w", err)
		}
		keys[k.role] = key
	}

	progress("issuing the certificates of the CA and the time-stamping authority")
	now := o.Clock()
	root, err := identity.CreateRoot(ctx, identity.RootConfig{
		Issuer: c.Issuer, Name: c.Organisation + " Signet CA", Organisation: c.Organisation, Key: keys[keyCA], Keys: o.Keys, Now: now,
	})
	if err != nil {
		return Created{}, fmt.Errorf("CA certificate: %w", err)
	}
	stamper, err := identity.IssueTSA(ctx, identity.TSAConfig{
		Name: c.Organisation + " Signet TSA", Organisation: c.Organisation, Public: keys[keyTSA].Public, CA: root, CAKey: keys[keyCA], PublicURL: c.Web.PublicURL,
		Keys: o.Keys, Now: now,
	})
	if err != nil {
		return Created{}, fmt.Errorf("time-stamping certificate: %w", err)
	}

	progress("writing the first entries of the ledger")
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return Created{}, err
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return Created{}, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	vkey, _, err := chain.VerifierKey(c.Ledger.Origin, keys[keyLedger].Public)
	if err != nil {
		return Created{}, err
	}
	list, err := firstList(ctx, c, o.Keys, keys[keyCA], root, now)
	if err != nil {
		return Created{}, err
	}
	if err := firstEntries(ctx, l, o, vkey, keys, root, stamper, list); err != nil {
		return Created{}, err
	}
	directory, err := openDirectory(c, l, o.Keys, nil, o.Clock, o.Log)
	if err != nil {
		return Created{}, err
	}
	progress("making the key that passwords are checked with (hmac-sha256) in the HSM")
	if err := directory.EnsureKeys(ctx); err != nil {
		return Created{}, fmt.Errorf("key ceremony: %w", err)
	}
	client, clientFile, err := writeClient(c, now)
	if err != nil {
		return Created{}, err
	}
	if _, err := directory.EnrollOwnService(ctx, manifest.ClosingService, closingName, keys[keyClosing], nil); err != nil {
		return Created{}, fmt.Errorf("closing service: %w", err)
	}
	if _, err := directory.EnrollOwnService(ctx, sealingID, sealingName, keys[keySealing], client); err != nil {
		return Created{}, fmt.Errorf("sealing service: %w", err)
	}

	progress("writing the TLS certificate and the trust file")
	serverFile, err := writeServerCertificate(c, now)
	if err != nil {
		return Created{}, err
	}
	trustFile, err := writeTrust(c, vkey, root)
	if err != nil {
		return Created{}, err
	}

	progress("inviting the first administrator")
	_, code, expires, err := directory.Bootstrap(ctx, identity.Invitation{
		UserName: admin.UserName, Name: admin.Name, Title: admin.Title, Zone: admin.Zone, Organisation: c.Organisation,
		Roles:    []identity.Role{identity.RoleAdministrator, identity.RoleAuditor},
		Proofing: identity.Proofing{Method: admin.ProofingMethod, Reference: admin.ProofingReference},
	})
	if err != nil {
		return Created{}, fmt.Errorf("first administrator: %w", err)
	}
	return Created{TrustFile: trustFile, ServerCertificate: serverFile, SealingClient: clientFile, Code: keystore.NewSecret(code.Reveal()), CodeExpires: expires}, nil
}

// firstEntries records the key ceremony.
func firstEntries(ctx context.Context, l *ledger.Ledger, o Options, vkey string, keys map[string]keystore.Key, root, stamper *x509.Certificate, list ledger.Event) error {
	actor := identity.System("init").Actor()
	spki := map[string][]byte{}
	for role, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil {
			return err
		}
		spki[role] = der
	}
	_, err := l.Do(ctx, func(tx *ledger.Tx) error {
		if tx.Size() != 0 {
			return fmt.Errorf("%w: the ledger is not empty", ErrInitialised)
		}
		tx.Emit(ledger.Event{Type: chain.LedgerCreated, Actor: actor, Body: ledgerCreated{
			Environment: o.Config.Environment, Format: "signet-entry/v1", Issuer: o.Config.Issuer, Key: vkey, Origin: o.Config.Ledger.Origin,
			Software: "signet " + o.Version,
		}})
		for _, k := range ceremonyKeys {
			key := keys[k.role]
			tx.Emit(ledger.Event{Type: chain.KeyCreated, Actor: actor, Attachments: [][]byte{spki[k.role]}, Body: keyCreated{
				Algorithm: string(key.Algorithm), Attributes: key.Attributes, ID: string(key.ID), KeyID: key.KeyID, Role: k.role,
			}})
		}
		for _, issued := range []struct {
			role        string
			certificate *x509.Certificate
		}{{keyCA, root}, {keyTSA, stamper}} {
			digest := sha256.Sum256(issued.certificate.Raw)
			tx.Emit(ledger.Event{Type: chain.CertificateIssued, Actor: actor, Attachments: [][]byte{issued.certificate.Raw}, Body: certificateIssued{
				Certificate: hex.EncodeToString(digest[:]), KeyID: keys[issued.role].KeyID,
				NotAfter: issued.certificate.NotAfter.UTC().Format(time.RFC3339), Role: issued.role,
			}})
		}
		tx.Emit(list)
		return nil
	})
	if err != nil {
		return fmt.Errorf("first entries: %w", err)
	}
	_, err = l.Checkpointed(ctx, l.Size())
	return err
}

// writeTrust writes what a verifier pins.
func writeTrust(c Config, vkey string, root *x509.Certificate) (string, error) {
	anchor := manifest.Root{Certificate: root.Raw, From: chain.NewTime(root.NotBefore), To: ""}
	t := manifest.Trust{
		Issuer: c.Issuer, MediaType: manifest.TrustMediaType, Name: c.Organisation,
		Ledgers:     []manifest.TrustLedger{{FromSize: 0, Origin: c.Ledger.Origin, ToSize: "", VKey: vkey, WitnessPolicy: ""}},
		SignerRoots: []manifest.Root{anchor}, TimestampRoots: []manifest.Root{anchor},
	}
	b, err := t.Encode()
	if err != nil {
		return "", fmt.Errorf("trust file: %w", err)
	}
	path := c.Path(TrustFile)
	return path, writeNew(path, b, 0o644)
}

// writeServerCertificate makes a self-signed certificate for the listener, unless the operator has put one there.
func writeServerCertificate(c Config, now time.Time) (string, error) {
	path, keyPath := c.Path(c.Listen.Certificate), c.Path(c.Listen.Key)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	names, addresses := []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	add := func(host string) {
		if ip := net.ParseIP(host); ip != nil {
			if !slices.ContainsFunc(addresses, ip.Equal) && !ip.IsUnspecified() {
				addresses = append(addresses, ip)
			}
		} else if host != "" && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	if u, err := url.Parse(c.Issuer); err == nil {
		add(u.Hostname())
	}
	if host, _, err := net.SplitHostPort(c.Listen.Address); err == nil {
		add(host)
	}
	add(c.Pages.RPID())
	_, err := writeCertificate(path, keyPath, &x509.Certificate{
		Subject: pkix.Name{CommonName: names[len(names)-1], Organization: []string{c.Organisation}}, DNSNames: names, IPAddresses: addresses,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(2, 0, 0),
	})
	return path, err
}

// writeClient makes the client certificate of the first service.
func writeClient(c Config, now time.Time) (*x509.Certificate, string, error) {
	dir := filepath.Dir(c.Path(c.Listen.Key))
	path := filepath.Join(dir, "sealing.pem")
	certificate, err := writeCertificate(path, filepath.Join(dir, "sealing-key.pem"), &x509.Certificate{
		Subject:     pkix.Name{CommonName: sealingName, Organization: []string{c.Organisation}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(2, 0, 0),
	})
	return certificate, path, err
}

// writeCertificate makes a key of its own in a file (it opens connections, it signs nothing that lasts) and a certificate
// over it, signed by itself.
func writeCertificate(path, keyPath string, template *x509.Certificate) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.KeyUsage, template.BasicConstraintsValid = serial, x509.KeyUsageDigitalSignature, true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeNew(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return nil, err
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// writeNew writes a file that must not be there yet, and makes it durable.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}
